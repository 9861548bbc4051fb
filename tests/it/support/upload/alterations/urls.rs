//! The alterations of a presigned PUT.

use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, percent_decode_str, utf8_percent_encode};
use reqwest::Method;

use crate::support::upload::{
    Upload,
    alterations::{
        ACCESS_KEY_ID, Alteration, BASIC, BOTH, CUSTOMER_KEY, DATE, DENIED, DENIED_OR_INVALID, INVALID_ACCESS_KEY,
        INVALID_ARGUMENT, INVALID_QUERY, INVALID_QUERY_OR_MISMATCH, INVALID_TOKEN, MISMATCH, MISMATCH_OR_DENIED,
        NO_LENGTH, NO_TOKEN, REGION, SERVICE, Server, alter_date, alter_end, alteration, replace, replace_part,
    },
};

pub(crate) const URL_ALTERATIONS: [Alteration; 57] = [
    alteration("another object key", MISMATCH, |upload, _| upload.edit_url("a.png", "b.png")),
    alteration("the object key of another grant", MISMATCH, |upload, other| {
        let (_, query) = upload.url.split_once('?').unwrap();
        upload.url = format!("{}?{query}", other.upload.url.split('?').next().unwrap());
    }),
    alteration("an object key outside the prefix", MISMATCH_OR_DENIED, |upload, _| upload.edit_url("/tmp/", "/")),
    alteration("an object key with encoded dot segments", MISMATCH, |upload, _| {
        upload.edit_url("/tmp/", "/tmp/%2e%2e%2f");
    }),
    alteration("another bucket", MISMATCH_OR_DENIED, |upload, _| upload.redirect_to_other_bucket()),
    alteration("another type", MISMATCH, |upload, _| upload.set_header("Content-Type", "text/html")),
    alteration("a type with a parameter", MISMATCH, |upload, _| {
        upload.set_header("Content-Type", "image/png; charset=utf-8");
    }),
    alteration("no type", MISMATCH, |upload, _| upload.remove_header("Content-Type")),
    alteration("another type after the granted one", MISMATCH, |upload, _| {
        upload.add_header("Content-Type", "text/html");
    }),
    alteration("another type before the granted one", MISMATCH, |upload, _| {
        upload.set_header("Content-Type", "text/html");
        upload.add_header("Content-Type", "image/png");
    }),
    alteration("chunks", NO_LENGTH, |upload, _| upload.is_chunked = true).accepted_by(BOTH),
    alteration("an access control list in the URL", MISMATCH, |upload, _| upload.extend_url("&x-amz-acl=public-read")),
    alteration("the subresource `acl`", MISMATCH_OR_DENIED, |upload, _| upload.extend_url("&acl")),
    alteration("the subresource `tagging`", MISMATCH_OR_DENIED, |upload, _| upload.extend_url("&tagging")),
    alteration("a part of a multipart upload", MISMATCH, |upload, _| upload.extend_url("&partNumber=1&uploadId=a")),
    alteration(
        "an access control list in a header",
        &[(403, "AccessDenied"), (400, "AccessControlListNotSupported")],
        |upload, _| upload.add_header("x-amz-acl", "public-read"),
    )
    .accepted_by(&[Server::S3s]),
    alteration("metadata", DENIED, |upload, _| upload.add_header("x-amz-meta-a", "b")).accepted_by(BOTH),
    alteration("a storage class", DENIED, |upload, _| upload.add_header("x-amz-storage-class", "GLACIER"))
        .accepted_by(&[Server::Ministack]),
    alteration("tags", DENIED, |upload, _| upload.add_header("x-amz-tagging", "a=b")).accepted_by(BOTH),
    alteration("server-side encryption", DENIED, |upload, _| {
        upload.add_header("x-amz-server-side-encryption", "AES256");
    })
    .accepted_by(BOTH),
    alteration("server-side encryption with a key of the uploader", DENIED, |upload, _| {
        for (name, value) in CUSTOMER_KEY {
            upload.add_header(name, value);
        }
    })
    .accepted_by(BOTH),
    alteration("a retention", DENIED_OR_INVALID, |upload, _| {
        upload.add_header("x-amz-object-lock-mode", "COMPLIANCE");
        upload.add_header("x-amz-object-lock-retain-until-date", "2033-12-01T16:00:00Z");
    })
    .accepted_by(&[Server::S3s]),
    alteration("a legal hold", DENIED_OR_INVALID, |upload, _| upload.add_header("x-amz-object-lock-legal-hold", "ON"))
        .accepted_by(&[Server::S3s]),
    alteration("a copy of another object", DENIED, |upload, _| {
        upload.add_header("x-amz-copy-source", "/uploads/secret");
        upload.file.clear();
    }),
    alteration("a redirect of the object", DENIED, |upload, _| {
        upload.add_header("x-amz-website-redirect-location", "https://example.com/");
    })
    .accepted_by(BOTH),
    alteration(
        "the hash of another file",
        &[(403, "AccessDenied"), (400, "XAmzContentSHA256Mismatch")],
        |upload, _| {
            upload.add_header("x-amz-content-sha256", &"0".repeat(64));
        },
    )
    .accepted_by(&[Server::Ministack]),
    alteration("a signed stream", &[(403, "AccessDenied"), (400, "IncompleteBody")], |upload, _| {
        upload.add_header("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    }),
    alteration("a longer lifetime", MISMATCH, |upload, _| {
        upload.edit_parameter("X-Amz-Expires", |lifetime| lifetime.push('1'));
    }),
    alteration("no lifetime", INVALID_QUERY, |upload, _| upload.remove_parameter("X-Amz-Expires")),
    alteration("a lifetime of zero seconds", DENIED, |upload, _| upload.set_parameter("X-Amz-Expires", "0")),
    alteration("a negative lifetime", INVALID_QUERY, |upload, _| upload.set_parameter("X-Amz-Expires", "-1")),
    alteration("a lifetime of over a week", INVALID_QUERY, |upload, _| {
        upload.set_parameter("X-Amz-Expires", "604801");
    }),
    alteration("another lifetime after the granted one", MISMATCH, |upload, _| {
        upload.extend_url("&X-Amz-Expires=604800");
    }),
    alteration("another lifetime before the granted one", MISMATCH, |upload, _| {
        upload.edit_url("?", "?X-Amz-Expires=604800&");
    }),
    alteration("another date", MISMATCH, |upload, _| upload.edit_parameter("X-Amz-Date", alter_date)),
    alteration("a date in the future", DENIED, |upload, _| {
        upload.set_parameter("X-Amz-Date", "21331201T160000Z");
        upload.set_url_credential(DATE, "21331201");
    }),
    alteration("no session token", NO_TOKEN, |upload, _| upload.remove_parameter("X-Amz-Security-Token")),
    alteration("another session token", INVALID_TOKEN, |upload, _| {
        upload.set_parameter("X-Amz-Security-Token", "another");
    }),
    alteration("the session token of another session", INVALID_TOKEN, |upload, other| {
        upload.set_parameter("X-Amz-Security-Token", &encode(&other.session_token).to_string());
    }),
    alteration("the session token of another session after the granted one", MISMATCH, |upload, other| {
        upload.extend_url(&format!("&X-Amz-Security-Token={}", encode(&other.session_token)));
    }),
    alteration("the session token in a header", NO_TOKEN, |upload, _| {
        let session_token = parameter(&upload.url, "X-Amz-Security-Token");
        upload.remove_parameter("X-Amz-Security-Token");
        upload.add_header("x-amz-security-token", &percent_decode_str(&session_token).decode_utf8().unwrap());
    }),
    alteration("an Authorization header", INVALID_ARGUMENT, |upload, _| upload.add_header("authorization", BASIC))
        .accepted_by(BOTH),
    alteration("another signature", MISMATCH, |upload, _| upload.edit_parameter("X-Amz-Signature", alter_end)),
    alteration("another signature after the granted one", MISMATCH, |upload, other| {
        upload.extend_url(&format!("&X-Amz-Signature={}", parameter(&other.upload.url, "X-Amz-Signature")));
    })
    .accepted_by(&[Server::Ministack]),
    alteration("no signature", &[(400, "AuthorizationQueryParametersError"), (400, "InvalidRequest")], |upload, _| {
        upload.remove_parameter("X-Amz-Signature");
    }),
    alteration("fewer signed headers", MISMATCH, |upload, _| upload.set_parameter("X-Amz-SignedHeaders", "host")),
    alteration("more signed headers", MISMATCH, |upload, _| {
        upload.edit_parameter("X-Amz-SignedHeaders", |headers| headers.push_str("%3Bx-amz-meta-a"));
        upload.add_header("x-amz-meta-a", "b");
    }),
    alteration("signed headers in another order", MISMATCH, |upload, _| {
        upload.set_parameter("X-Amz-SignedHeaders", "host%3Bcontent-type");
    }),
    alteration("no signed headers", INVALID_QUERY_OR_MISMATCH, |upload, _| {
        upload.set_parameter("X-Amz-SignedHeaders", "");
    }),
    alteration("another access key", INVALID_ACCESS_KEY, |upload, _| {
        upload.set_url_credential(ACCESS_KEY_ID, "ASIAOTHEREXAMPLE0000");
    }),
    alteration("a credential of another day", INVALID_QUERY_OR_MISMATCH, |upload, _| {
        upload.set_url_credential(DATE, "20010101");
    }),
    alteration("a credential of another region", INVALID_QUERY_OR_MISMATCH, |upload, _| {
        upload.set_url_credential(REGION, "eu-other-1");
    }),
    alteration("a credential of another service", INVALID_QUERY_OR_MISMATCH, |upload, _| {
        upload.set_url_credential(SERVICE, "sts");
    }),
    alteration("nothing but the object key", DENIED, |upload, _| {
        upload.url = upload.url.split('?').next().unwrap().to_owned();
    }),
    alteration("a GET", MISMATCH_OR_DENIED, |upload, _| upload.set_method(Method::GET)),
    alteration("a DELETE", MISMATCH_OR_DENIED, |upload, _| upload.set_method(Method::DELETE)),
    alteration("a POST", MISMATCH, |upload, _| upload.set_method(Method::POST)),
];

/// Returns the value of a parameter of a URL, as it is encoded there.
#[track_caller]
pub(super) fn parameter(url: &str, name: &str) -> String {
    let (_, value) = url.split_once(&format!("{name}=")).unwrap();
    value.split('&').next().unwrap().to_owned()
}

pub(super) fn encode(value: &str) -> PercentEncode<'_> {
    utf8_percent_encode(value, NON_ALPHANUMERIC)
}

impl Upload {
    pub(super) fn edit_url(&mut self, from: &str, to: &str) {
        replace(&mut self.url, from, to);
    }

    pub(super) fn extend_url(&mut self, query: &str) {
        self.url.push_str(query);
    }

    fn edit_parameter(&mut self, name: &str, edit: impl FnOnce(&mut String)) {
        let value = parameter(&self.url, name);
        let mut edited = value.clone();
        edit(&mut edited);
        self.edit_url(&format!("{name}={value}"), &format!("{name}={edited}"));
    }

    pub(super) fn set_parameter(&mut self, name: &str, value: &str) {
        self.edit_parameter(name, |parameter| value.clone_into(parameter));
    }

    pub(super) fn remove_parameter(&mut self, name: &str) {
        self.edit_url(&format!("&{name}={}", parameter(&self.url, name)), "");
    }

    fn set_url_credential(&mut self, part: usize, value: &str) {
        self.edit_parameter("X-Amz-Credential", |credential| replace_part(credential, "%2F", part, value));
    }

    pub(super) fn set_method(&mut self, method: Method) {
        self.method = method;
    }
}
