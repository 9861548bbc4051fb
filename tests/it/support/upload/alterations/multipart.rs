//! Every order in which the requests of a multipart upload might arrive, and alterations of each.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use reqwest::Method;
use serde_json::Value;

use crate::support::upload::{
    Upload,
    alterations::{
        ALL, Alteration, BOTH, DENIED, MISMATCH, MISMATCH_OR_DENIED, NO_LENGTH_OR_MISMATCH, NONE, Objects, Other,
        Refusals, Server, alteration, replace, urls::parameter,
    },
    multipart::{Etags, PART_SIZE, Started, Uploader, large_file, part, request},
};

const NO_UPLOAD: Refusals = &[(404, "NoSuchUpload")];
const INVALID_PART: Refusals = &[(400, "InvalidPart")];
const WRONG_SIZE: Refusals = &[(400, "InvalidRequest")];
const EXISTS: Refusals = &[(412, "PreconditionFailed")];
/// `s3s` ties an upload id to no object, and ignores the size and each `ETag` of a completion.
const S3S: &[Server] = &[Server::S3s];

const SIZE: &str = "x-amz-mp-object-size";
const CONDITION: &str = "If-None-Match";

/// One request of an upload, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Starts an upload of the same object again, with the same URL.
    Create,
    /// Sends these parts, at once.
    Parts(&'static [u64]),
    /// Sends the first part with other content.
    OtherContent,
    List,
    Abort,
    /// Completes the upload with the parts that were sent.
    Complete,
    /// Has all URLs from now on signed for the upload id of another upload.
    SwapUploadIds,
}

use Step::{Abort, Complete, Create, List, OtherContent, Parts, SwapUploadIds};

/// The requests of one upload.
struct Row {
    /// The requests that succeed.
    before: &'static [Step],
    /// The request that is altered.
    last: Step,
    alteration: Alteration,
    may_overwrite: bool,
}

const fn row(before: &'static [Step], last: Step, alteration: Alteration) -> Row {
    Row { before, last, alteration, may_overwrite: false }
}

/// Returns requests that S3 accepts, and that upload the file if they complete the upload.
const fn accepted(name: &'static str, before: &'static [Step], last: Step) -> Row {
    row(before, last, alteration(name, NONE, |_, _| {}).accepted_by(ALL))
}

/// Returns requests of which S3 rejects the last.
const fn refused(name: &'static str, before: &'static [Step], last: Step, refusals: Refusals) -> Row {
    row(before, last, alteration(name, refusals, |_, _| {}))
}

impl Row {
    const fn accepted_by(self, servers: &'static [Server]) -> Self {
        Self { alteration: self.alteration.accepted_by(servers), ..self }
    }

    const fn overwriting(self) -> Self {
        Self { may_overwrite: true, ..self }
    }
}

const PART: Step = Parts(&[1]);
const PARTS: Step = Parts(&[1, 2, 3]);

const ROWS: &[Row] = &[
    accepted("parts in order", &[Parts(&[1]), Parts(&[2]), Parts(&[3])], Complete),
    accepted("parts out of order", &[Parts(&[3]), Parts(&[1]), Parts(&[2])], Complete),
    accepted("parts in parallel", &[PARTS], Complete),
    accepted("a part again", &[PARTS, Parts(&[2])], Complete),
    accepted("a part again, after other content", &[OtherContent, PARTS], Complete),
    accepted("a list of parts", &[Parts(&[2])], List),
    accepted("an abort", &[PART], Abort),
    accepted("an abort before the first part", &[], Abort),
    accepted("an upload after an abort", &[PART, Abort, Create, PARTS], Complete),
    accepted("an upload over another", &[PARTS, Complete, Create, PARTS], Complete).overwriting(),
    // The first request.
    row(&[], Create, alteration("another object key", MISMATCH, |upload, _| upload.edit_url("a.bin", "b.bin"))),
    row(&[], Create, alteration("another bucket", MISMATCH_OR_DENIED, |upload, _| upload.redirect_to_other_bucket())),
    row(&[], Create, alteration("another type", MISMATCH, |upload, _| upload.set_header("Content-Type", "text/html"))),
    row(&[], Create, alteration("no type", MISMATCH, |upload, _| upload.remove_header("Content-Type"))),
    row(&[], Create, alteration("a PUT", MISMATCH, |upload, _| upload.set_method(Method::PUT))),
    row(&[], Create, alteration("metadata", DENIED, |upload, _| upload.add_header("x-amz-meta-a", "b")))
        .accepted_by(BOTH),
    // A part.
    row(&[], PART, alteration("a byte more", MISMATCH, |upload, _| upload.file.push(b'a'))),
    row(&[], PART, alteration("a byte less", MISMATCH, |upload, _| upload.file.truncate(part(1).len() - 1))),
    row(&[], PART, alteration("no bytes", MISMATCH, |upload, _| upload.file.clear())),
    row(&[], PART, alteration("chunks", NO_LENGTH_OR_MISMATCH, |upload, _| upload.is_chunked = true)),
    row(&[], PART, alteration("another number", MISMATCH, |upload, _| upload.set_parameter("partNumber", "2"))),
    row(
        &[],
        PART,
        alteration("another number after the granted one", MISMATCH, |upload, _| {
            upload.extend_url("&partNumber=2");
        }),
    ),
    row(&[], PART, alteration("another upload id", MISMATCH, swap_upload_ids)),
    row(&[], PART, alteration("no upload id", MISMATCH, |upload, _| upload.remove_parameter("uploadId"))),
    row(&[], PART, alteration("another object key", MISMATCH, swap_object_keys)),
    row(&[], PART, alteration("another bucket", MISMATCH_OR_DENIED, |upload, _| upload.redirect_to_other_bucket())),
    row(&[], PART, alteration("a GET", MISMATCH, |upload, _| upload.set_method(Method::GET))),
    row(&[], PART, alteration("a DELETE", MISMATCH, |upload, _| upload.set_method(Method::DELETE))),
    row(
        &[],
        PART,
        alteration("a copy of another object", MISMATCH_OR_DENIED, |upload, _| {
            upload.add_header("x-amz-copy-source", "/uploads/secret");
        }),
    ),
    refused("a part of another upload", &[SwapUploadIds], PART, NO_UPLOAD).accepted_by(S3S),
    refused("a part after the abort", &[Abort], PART, NO_UPLOAD),
    refused("a part after the completion", &[PARTS, Complete], PART, NO_UPLOAD),
    // The other requests.
    row(
        &[PART],
        List,
        alteration("an abort with the URL of a list", MISMATCH, |upload, _| {
            upload.set_method(Method::DELETE);
        }),
    ),
    row(&[PART], List, alteration("another upload id", MISMATCH, swap_upload_ids)),
    row(&[PART], List, alteration("another object key", MISMATCH, swap_object_keys)),
    refused("a list of another upload", &[SwapUploadIds], List, NO_UPLOAD).accepted_by(S3S),
    refused("a list after the abort", &[PART, Abort], List, NO_UPLOAD).accepted_by(S3S),
    row(&[PART], Abort, alteration("another upload id", MISMATCH, swap_upload_ids)),
    row(&[PART], Abort, alteration("another object key", MISMATCH, swap_object_keys)),
    row(
        &[PARTS, Complete],
        Abort,
        alteration("a deletion of the object", MISMATCH_OR_DENIED, |upload, _| {
            let (url, query) = upload.url.split_once('?').unwrap();
            let (_, signature) = query.split_once('&').unwrap();
            upload.url = format!("{url}?{signature}");
        }),
    ),
    refused("an abort of another upload", &[SwapUploadIds], Abort, NO_UPLOAD).accepted_by(S3S),
    refused("an abort after the abort", &[PART, Abort], Abort, NO_UPLOAD),
    // The last request.
    refused("a part missing in the middle", &[Parts(&[1, 3])], Complete, WRONG_SIZE),
    refused("a part missing at the end", &[Parts(&[1, 2])], Complete, WRONG_SIZE).accepted_by(S3S),
    row(&[PARTS], Complete, alteration("an unknown part", INVALID_PART, |upload, _| edit_body(upload, ">3<", ">4<"))),
    row(
        &[PARTS],
        Complete,
        alteration("a wrong ETag", INVALID_PART, |upload, _| {
            edit_body(upload, "<ETag>\"", "<ETag>\"00");
        }),
    )
    .accepted_by(S3S),
    row(&[PARTS], Complete, alteration("the wrong size", MISMATCH, |upload, _| upload.set_header(SIZE, "1"))),
    row(&[PARTS], Complete, alteration("no size", MISMATCH, |upload, _| upload.remove_header(SIZE))),
    row(
        &[PARTS],
        Complete,
        alteration("the size in the URL", MISMATCH, |upload, _| {
            upload.remove_header(SIZE);
            upload.extend_url(&format!("&{SIZE}={}", large_file().len()));
        }),
    ),
    row(&[PARTS], Complete, alteration("no condition", MISMATCH, |upload, _| upload.remove_header(CONDITION))),
    row(&[PARTS], Complete, alteration("no headers", MISMATCH, |upload, _| upload.headers.clear())),
    row(&[PARTS], Complete, alteration("another upload id", MISMATCH, swap_upload_ids)),
    row(&[PARTS], Complete, alteration("another object key", MISMATCH, swap_object_keys)),
    refused("a completion of another upload", &[PARTS, SwapUploadIds], Complete, NO_UPLOAD),
    refused("a completion after the abort", &[PART, Abort], Complete, NO_UPLOAD),
    // S3 repeats its response until it forgets the upload.
    refused("a completion after the completion", &[PARTS, Complete], Complete, NO_UPLOAD)
        .accepted_by(&[Server::Ministack]),
    refused("a second upload of the object", &[PARTS, Complete, Create, PARTS], Complete, EXISTS),
    row(
        &[PARTS, Complete, Create, PARTS],
        Complete,
        alteration("a second upload without the condition", MISMATCH, |upload, _| {
            upload.remove_header(CONDITION);
        }),
    ),
];

fn swap_upload_ids(upload: &mut Upload, other: &Other) {
    upload.set_parameter("uploadId", &parameter(&other.upload.url, "uploadId"));
}

fn swap_object_keys(upload: &mut Upload, other: &Other) {
    let (_, query) = upload.url.split_once('?').unwrap();
    upload.url = format!("{}?{query}", other.upload.url.split('?').next().unwrap());
}

fn edit_body(upload: &mut Upload, from: &str, to: &str) {
    let mut body = String::from_utf8(upload.file.clone()).unwrap();
    replace(&mut body, from, to);
    upload.file = body.into_bytes();
}

/// An upload in progress.
#[derive(Clone)]
struct Session {
    grant: Value,
    started: Started,
    etags: Etags,
}

impl Session {
    async fn start<Api: AsyncFn(&str, &Value) -> Value>(uploader: &Uploader<Api>, may_overwrite: bool) -> Self {
        let mut body = request();
        body["overwrite"] = may_overwrite.into();
        let grant = uploader.grant(&body).await;
        let started = uploader.start(&grant).await;
        Self { grant, started, etags: Etags::new() }
    }

    /// Takes a step that has to succeed.
    async fn take<Api: AsyncFn(&str, &Value) -> Value>(&mut self, uploader: &Uploader<Api>, step: Step, other: &Self) {
        match step {
            Create => *self = Self { started: uploader.start(&self.grant).await, etags: Etags::new(), ..self.clone() },
            Parts(numbers) => self.etags.extend(uploader.send_parts(&self.started, numbers).await),
            SwapUploadIds => self.started.upload_id.clone_from(&other.started.upload_id),
            OtherContent | List | Abort | Complete => {
                uploader.send(self.request(uploader, step).await).await.unwrap();
            }
        }
    }

    /// Returns the request of a step.
    async fn request<Api: AsyncFn(&str, &Value) -> Value>(&self, uploader: &Uploader<Api>, step: Step) -> Upload {
        let signed = uploader.sign(&self.started, &[1]).await;
        let first = |content| Upload::put(&signed["parts"][0], None, content);
        match step {
            Create => Upload::step(&self.grant["create"], Vec::new()),
            Parts(_) => first(part(1).to_vec()),
            OtherContent => first(vec![b'a'; PART_SIZE]),
            List => Upload::step(&signed["list"], Vec::new()),
            Abort => Upload::step(&signed["abort"], Vec::new()),
            Complete => Upload::complete(&signed, &self.etags),
            SwapUploadIds => panic!("not a request"),
        }
    }

    /// Returns the parts that were sent, as one file.
    fn file(&self) -> Vec<u8> {
        self.etags.keys().map(|&number| part(number)).collect::<Vec<_>>().concat()
    }
}

/// Tries every row, and describes each one whose last request had another outcome on S3, or that did not store exactly
/// the parts of a completed upload.
///
/// `stored` reads an object, and `take_objects` removes all objects and returns them.
pub(crate) async fn unexpected_outcomes(
    server: Server,
    uploader: &Uploader<impl AsyncFn(&str, &Value) -> Value>,
    stored: impl AsyncFn(&Value) -> Option<Vec<u8>>,
    take_objects: impl AsyncFn() -> Objects,
) -> Vec<String> {
    let mut unexpected = Vec::new();
    for Row { before, last, alteration, may_overwrite } in ROWS {
        let mut session = Session::start(uploader, *may_overwrite).await;
        let other = Session::start(uploader, false).await;
        for step in *before {
            session.take(uploader, *step, &other).await;
        }
        let other = Other { upload: other.request(uploader, *last).await, session_token: String::new() };
        let mut altered = session.request(uploader, *last).await;
        (alteration.alter)(&mut altered, &other);

        let response = uploader.send(altered).await;

        let is_success = response.is_ok();
        let (Ok(response) | Err(response)) = response;
        let is_complete = before.contains(&Complete) || (*last == Complete && is_success);
        let expected = is_complete.then(|| session.file());
        let object_key = &session.grant["key"];
        let (content, taken) = (stored(object_key).await, take_objects().await);
        let objects: Vec<_> = expected.iter().map(|it| (object_key.as_str().unwrap().to_owned(), it.len())).collect();
        if is_success != alteration.accepted_by.contains(&server)
            || !alteration.is_expected(server, response.status, response.code())
            || content != expected
            || taken != objects
        {
            let size = content.map(|content| content.len());
            unexpected.push(format!("{last:?}, {}: {response:?}, stored: {size:?}", alteration.name));
        }
    }
    unexpected
}
