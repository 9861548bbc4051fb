//! The alterations of a presigned PUT that is bound to a size, to a SHA-256 digest and to the first use.

use crate::support::upload::alterations::{
    Alteration, BOTH, DENIED, FILE_CONTENT, MISMATCH, NO_LENGTH_OR_MISMATCH, Server, TWO_CHECKSUMS, WRONG_CHECKSUM,
    alteration, urls::encode,
};

const CHECKSUM: &str = "x-amz-checksum-sha256";
const CONDITION: &str = "If-None-Match";
/// `s3s` compares checksums after it has stored the file.
const S3S: &[Server] = &[Server::S3s];
/// The digest of no bytes.
const OTHER_CHECKSUM: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

pub(crate) const BOUND_URL_ALTERATIONS: [Alteration; 21] = [
    alteration("a byte more", MISMATCH, |upload, _| upload.file.push(b'a')),
    alteration("a byte less", MISMATCH, |upload, _| upload.file.truncate(FILE_CONTENT.len() - 1)),
    alteration("no bytes", MISMATCH, |upload, _| upload.file.clear()),
    alteration("chunks", NO_LENGTH_OR_MISMATCH, |upload, _| upload.is_chunked = true),
    alteration("a byte more, in chunks", NO_LENGTH_OR_MISMATCH, |upload, _| {
        upload.is_chunked = true;
        upload.file.push(b'a');
    }),
    alteration("other content of the same size", WRONG_CHECKSUM, |upload, _| upload.file.fill(b'b')).stored_by(S3S),
    alteration("no checksum", MISMATCH, |upload, _| upload.remove_header(CHECKSUM)),
    alteration("another checksum", MISMATCH, |upload, _| upload.set_header(CHECKSUM, OTHER_CHECKSUM)),
    alteration("another checksum after the granted one", MISMATCH, |upload, _| {
        upload.add_header(CHECKSUM, OTHER_CHECKSUM);
    }),
    alteration("the checksum in the URL", MISMATCH, |upload, _| {
        let checksum = upload.header(CHECKSUM).clone();
        upload.remove_header(CHECKSUM);
        upload.extend_url(&format!("&{CHECKSUM}={}", encode(&checksum)));
    }),
    alteration("another checksum in the URL", MISMATCH, |upload, _| {
        upload.extend_url(&format!("&{CHECKSUM}={}", encode(OTHER_CHECKSUM)));
    }),
    // The CRC-32 of the file.
    alteration("a checksum by another algorithm", TWO_CHECKSUMS, |upload, _| {
        upload.add_header("x-amz-checksum-crc32", "mjjaAw==");
    })
    .accepted_by(BOTH),
    alteration("a wrong checksum by another algorithm", TWO_CHECKSUMS, |upload, _| {
        upload.add_header("x-amz-checksum-crc32", "AAAAAA==");
    })
    .stored_by(S3S),
    alteration("another algorithm", DENIED, |upload, _| upload.add_header("x-amz-sdk-checksum-algorithm", "CRC32"))
        .accepted_by(BOTH),
    alteration("no condition", MISMATCH, |upload, _| upload.remove_header(CONDITION)),
    alteration("another condition", MISMATCH, |upload, _| upload.set_header(CONDITION, "\"a\"")),
    alteration("the condition in the URL", MISMATCH, |upload, _| {
        upload.remove_header(CONDITION);
        upload.extend_url("&If-None-Match=*");
    }),
    alteration("no condition among the signed headers", MISMATCH, |upload, _| {
        upload.remove_header(CONDITION);
        upload.edit_url("%3Bif-none-match", "");
    }),
    alteration("a second upload", &[(412, "PreconditionFailed")], |_, _| {}).after_another_upload(),
    alteration("no condition, a second time", MISMATCH, |upload, _| upload.remove_header(CONDITION))
        .after_another_upload(),
    alteration("other content, a second time", &[(412, "PreconditionFailed"), (400, "BadDigest")], |upload, _| {
        upload.file.fill(b'b');
    })
    .after_another_upload(),
];
