//! The table of routes: the endpoint of each method and path, and whether it needs an API key.

use futures_util::{FutureExt as _, future::BoxFuture};
use lambda_http::http::Method;

use crate::{
    app::App,
    auth::Authenticated,
    endpoints::{Call, Reply, confirm::confirm, healthz::healthz, media, presign, uploads, uploads_sign},
    error::Error,
};

/// The route that is served only if the settings allow confirmation.
const CONFIRM: &str = "/v1/uploads/confirm";

/// Every route. A 404 lists those that are served in this order, without HEAD.
pub static ROUTES: [Route; 7] = [
    Route::new(Method::POST, "/media/", |call, by| media::grant(call, &by.caller.limits).boxed()),
    Route::new(Method::POST, "/v1/assets/presign", |call, by| presign::grant(call, &by.caller.limits).boxed()),
    Route::new(Method::POST, "/v1/uploads", |call, by| uploads::start(call, by).boxed()),
    Route::new(Method::POST, "/v1/uploads/sign", |call, by| uploads_sign::sign(call, by).boxed()),
    Route::new(Method::POST, CONFIRM, |call, by| confirm(call, by).boxed()),
    Route::open(Method::GET, "/healthz", healthz),
    Route::open(Method::HEAD, "/healthz", healthz),
];

/// A route: one method of one path.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path as the documentation writes it.
    pub path: &'static str,
    /// The function that serves it.
    pub endpoint: Endpoint,
}

/// The function that serves a route.
#[derive(Clone, Copy)]
pub enum Endpoint {
    /// Needs an API key, and gets the caller.
    Authenticated(ServeCaller),
    /// Needs no API key.
    Open(fn(Call<'_>) -> Reply),
}

/// Serves a request of this caller.
pub type ServeCaller = for<'a> fn(Call<'a>, &'a Authenticated<'a>) -> BoxFuture<'a, Result<Reply, Error>>;

impl Route {
    const fn new(method: Method, path: &'static str, serve: ServeCaller) -> Self {
        Self { method, path, endpoint: Endpoint::Authenticated(serve) }
    }

    const fn open(method: Method, path: &'static str, serve: fn(Call<'_>) -> Reply) -> Self {
        Self { method, path, endpoint: Endpoint::Open(serve) }
    }
}

/// Returns the routes that the function serves.
pub fn served(app: &App) -> impl Iterator<Item = &'static Route> + Clone {
    let allows_confirmation = app.object_store.is_some();
    ROUTES.iter().filter(move |route| allows_confirmation || route.path != CONFIRM)
}

/// Matches the end of a request's path against the routes, and returns the path of the longest match, as in the table.
///
/// The operator decides what comes before the match: the stage of an API, the mapping of a custom domain, a base path.
/// A match starts at a slash, and a trailing slash makes no difference.
#[must_use]
pub fn match_path(routes: impl Iterator<Item = &'static Route>, path: &str) -> Option<&'static str> {
    let path = trim_slash(path);
    routes.map(|route| route.path).filter(|known| path.ends_with(trim_slash(known))).max_by_key(|it| it.len())
}

/// Finds the route of a path that [`match_path`] returned.
///
/// # Errors
///
/// [`Error::NotFound`] if there is no path, [`Error::MethodNotAllowed`] if the path does not support the method.
pub fn find(
    routes: impl Iterator<Item = &'static Route> + Clone,
    path: Option<&'static str>,
    method: &Method,
) -> Result<&'static Route, Error> {
    let Some(path) = path else { return Err(not_found(routes)) };
    let of_path = routes.filter(|route| route.path == path);
    of_path.clone().find(|route| route.method == *method).ok_or_else(|| {
        let methods: Vec<_> = of_path.map(|route| route.method.as_str()).collect();
        Error::MethodNotAllowed { allow: methods.join(", ") }
    })
}

fn not_found(routes: impl Iterator<Item = &'static Route>) -> Error {
    // HEAD is implied by GET.
    let listed = routes.filter(|route| route.method != Method::HEAD);
    let mut routes: Vec<_> = listed.map(|route| format!("`{} {}`", route.method, route.path)).collect();
    let last = routes.pop().unwrap_or_default();
    Error::NotFound { expected: format!("{} or {last}", routes.join(", ")) }
}

fn trim_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_end_of_a_path_at_a_segment_boundary() {
        for (path, expected) in [
            ("/media/", Some("/media/")),
            ("/media", Some("/media/")),
            ("/prod/media/", Some("/media/")),
            ("/api/v1/media", Some("/media/")),
            ("/media/media/", Some("/media/")),
            ("/v1/assets/presign", Some("/v1/assets/presign")),
            ("/v1/assets/presign/", Some("/v1/assets/presign")),
            ("/healthz/", Some("/healthz")),
            ("", None),
            ("/", None),
            ("media", None),
            ("/multimedia/", None),
            ("/media//", None),
            ("/media/x", None),
            ("/MEDIA/", None),
            ("/assets/presign", None),
            ("/v1//assets/presign", None),
        ] {
            assert_eq!(match_path(ROUTES.iter(), path), expected, "{path:?}");
        }
    }

    #[test]
    fn finds_a_route_by_its_method() {
        let route = find(ROUTES.iter(), Some("/media/"), &Method::POST).unwrap();

        assert_eq!((&route.method, route.path), (&Method::POST, "/media/"));
    }

    #[test]
    fn names_the_methods_of_a_path_and_the_paths_of_the_table() {
        let other_method = find(ROUTES.iter(), Some("/media/"), &Method::PUT).err().unwrap();
        let no_path = find(ROUTES.iter(), None, &Method::POST).err().unwrap();

        assert_eq!(other_method.to_string(), "method not allowed; expected POST");
        assert_eq!(
            no_path.to_string(),
            "unknown path; expected `POST /media/`, `POST /v1/assets/presign`, `POST /v1/uploads`, \
             `POST /v1/uploads/sign`, `POST /v1/uploads/confirm` or `GET /healthz`"
        );
    }

    #[test]
    fn every_route_but_healthz_is_authenticated() {
        let open = ROUTES.iter().filter(|route| matches!(route.endpoint, Endpoint::Open(_)));

        assert_eq!(open.map(|route| route.path).collect::<Vec<_>>(), ["/healthz", "/healthz"]);
    }

    #[test]
    fn no_route_shadows_another() {
        for route in &ROUTES {
            assert_eq!(match_path(ROUTES.iter(), route.path), Some(route.path));
        }
    }
}
