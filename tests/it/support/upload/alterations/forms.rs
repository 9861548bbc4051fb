//! The alterations of a presigned POST.

use std::time::SystemTime;

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::support::upload::{
    FILE, Upload,
    alterations::{
        ACCESS_KEY_ID, ALL, Alteration, BASIC, BOTH, CUSTOMER_KEY, DATE, DENIED, FILE_CONTENT, INVALID_ACCESS_KEY,
        INVALID_ARGUMENT, INVALID_TOKEN, MISMATCH, NO_LENGTH, NO_LENGTH_OR_TOO_LARGE, NO_TOKEN, NONE, Other, REGION,
        SERVICE, Server, TOO_LARGE, TOO_SMALL, WRONG_NUMBER_OF_FILES, alter_date, alter_end, alteration, replace,
        replace_part,
    },
};

/// S3 does not document what it does with a field that occurs twice. Both servers use the last one, so one before the
/// granted field changes nothing.
pub(crate) const FORM_ALTERATIONS: [Alteration; 82] = [
    alteration("another object key", DENIED, |upload, _| upload.edit("key", "a.png", "b.png")),
    alteration("the object key of another grant", DENIED, |upload, other| upload.take("key", other)),
    alteration("an object key outside the prefix", DENIED, |upload, _| upload.edit("key", "tmp/", "")),
    alteration("an object key with dot segments", DENIED, |upload, _| upload.edit("key", "tmp/", "tmp/../")),
    alteration("a longer object key", DENIED, |upload, _| upload.field("key").push_str(".html")),
    alteration("an object key that the uploader chooses", DENIED, |upload, _| {
        upload.edit("key", "a.png", "${filename}");
    }),
    alteration("no object key", INVALID_ARGUMENT, |upload, _| upload.remove("key")),
    alteration("another object key after the granted one", DENIED, |upload, _| upload.add("key", "tmp/b.png")),
    alteration("another object key before the granted one", DENIED, |upload, _| upload.prepend("key", "tmp/b.png"))
        .accepted_by(BOTH),
    alteration("another object key, in another case, after the granted one", DENIED, |upload, _| {
        upload.add("Key", "tmp/b.png");
    }),
    alteration("another object key, in another case, before the granted one", DENIED, |upload, _| {
        upload.prepend("KEY", "tmp/b.png");
    })
    .accepted_by(BOTH),
    alteration("another type", DENIED, |upload, _| upload.set("Content-Type", "text/html")),
    alteration("a type with a parameter", DENIED, |upload, _| {
        upload.set("Content-Type", "image/png; charset=utf-8");
    }),
    alteration("a list of types", DENIED, |upload, _| upload.set("Content-Type", "image/png,text/html")),
    alteration("no type", DENIED, |upload, _| upload.remove("Content-Type")),
    alteration("another type after the granted one", DENIED, |upload, _| upload.add("content-type", "text/html")),
    alteration("another type before the granted one", DENIED, |upload, _| upload.prepend("Content-Type", "text/html"))
        .accepted_by(BOTH),
    alteration("another bucket", DENIED, |upload, _| upload.redirect_to_other_bucket()),
    alteration("a field for another bucket", DENIED, |upload, _| upload.add("bucket", "other")),
    alteration("no bytes", TOO_SMALL, |upload, _| upload.file.clear()),
    alteration("a byte less", TOO_SMALL, |upload, _| upload.file.truncate(FILE_CONTENT.len() - 1)),
    alteration("a byte more", TOO_LARGE, |upload, _| upload.file.push(b'a')),
    alteration("chunks", NO_LENGTH, |upload, _| upload.is_chunked = true).accepted_by(BOTH),
    alteration("a byte more, in chunks", NO_LENGTH_OR_TOO_LARGE, |upload, _| {
        upload.is_chunked = true;
        upload.file.push(b'a');
    }),
    alteration("no file", WRONG_NUMBER_OF_FILES, |upload, _| upload.remove(FILE)),
    alteration("two files", WRONG_NUMBER_OF_FILES, |upload, _| upload.add(FILE, "")).accepted_by(BOTH),
    alteration("the file before the fields", INVALID_ARGUMENT, |upload, _| upload.fields.rotate_right(1))
        .accepted_by(&[Server::Ministack]),
    // S3 ignores what follows the file: <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html>.
    alteration("another object key after the file", DENIED, |upload, _| upload.append("key", "tmp/b.png"))
        .accepted_by(&[Server::S3s, Server::Third]),
    alteration("an access control list after the file", DENIED, |upload, _| upload.append("acl", "public-read"))
        .accepted_by(&[Server::S3s, Server::Third]),
    alteration("a field that S3 promises to ignore", NONE, |upload, _| upload.add("x-ignore-a", "b")).accepted_by(ALL),
    alteration("an access control list", DENIED, |upload, _| upload.add("acl", "public-read")),
    alteration("the subresource `acl`", &[(405, "MethodNotAllowed")], |upload, _| upload.url.push_str("?acl"))
        .accepted_by(BOTH),
    alteration("metadata", DENIED, |upload, _| upload.add("x-amz-meta-a", "b")),
    alteration("another success status", DENIED, |upload, _| upload.add("success_action_status", "201")),
    alteration("a redirect after the upload", DENIED, |upload, _| {
        upload.add("success_action_redirect", "https://example.com/");
    }),
    alteration("a redirect after the upload, by its old name", DENIED, |upload, _| {
        upload.add("redirect", "https://example.com/");
    }),
    alteration("a Cache-Control", DENIED, |upload, _| upload.add("Cache-Control", "max-age=1")),
    alteration("a Content-Disposition", DENIED, |upload, _| upload.add("Content-Disposition", "inline")),
    alteration("a Content-Encoding", DENIED, |upload, _| upload.add("Content-Encoding", "gzip")),
    alteration("a Content-Language", DENIED, |upload, _| upload.add("Content-Language", "de")),
    alteration("an Expires", DENIED, |upload, _| upload.add("Expires", "Thu, 01 Dec 2033 16:00:00 GMT")),
    alteration("a checksum", DENIED, |upload, _| {
        upload.add("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }),
    alteration("the algorithm of a checksum", DENIED, |upload, _| upload.add("x-amz-checksum-algorithm", "CRC32")),
    alteration("a storage class", DENIED, |upload, _| upload.add("x-amz-storage-class", "GLACIER")),
    alteration("tags", DENIED, |upload, _| {
        upload.add("tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>");
    }),
    alteration("tags, as in a header", DENIED, |upload, _| upload.add("x-amz-tagging", "a=b")),
    alteration("server-side encryption", DENIED, |upload, _| upload.add("x-amz-server-side-encryption", "aws:kms"))
        .accepted_by(&[Server::S3s]),
    alteration("server-side encryption with a key of the uploader", DENIED, |upload, _| {
        for (name, value) in CUSTOMER_KEY {
            upload.add(name, value);
        }
    })
    .accepted_by(&[Server::S3s]),
    alteration("a retention", DENIED, |upload, _| {
        upload.add("x-amz-object-lock-mode", "COMPLIANCE");
        upload.add("x-amz-object-lock-retain-until-date", "2033-12-01T16:00:00Z");
    }),
    alteration("a legal hold", DENIED, |upload, _| upload.add("x-amz-object-lock-legal-hold", "ON")),
    alteration("a redirect of the object", DENIED, |upload, _| {
        upload.add("x-amz-website-redirect-location", "https://example.com/");
    }),
    alteration("no session token", NO_TOKEN, |upload, _| upload.remove("x-amz-security-token")),
    alteration("another session token", INVALID_TOKEN, |upload, _| upload.set("x-amz-security-token", "another")),
    alteration("the session token of another session", INVALID_TOKEN, |upload, other| {
        upload.set("x-amz-security-token", &other.session_token);
    }),
    alteration("the session token of another session after the granted one", INVALID_TOKEN, |upload, other| {
        upload.add("x-amz-security-token", &other.session_token);
    }),
    alteration("the session token of another session before the granted one", INVALID_TOKEN, |upload, other| {
        upload.prepend("x-amz-security-token", &other.session_token);
    })
    .accepted_by(BOTH),
    alteration("the session token in a header", NO_TOKEN, |upload, _| {
        let session_token = upload.value("x-amz-security-token").to_owned();
        upload.remove("x-amz-security-token");
        upload.add_header("x-amz-security-token", &session_token);
    }),
    alteration("an Authorization header", INVALID_ARGUMENT, |upload, _| upload.add_header("authorization", BASIC))
        .accepted_by(BOTH),
    alteration("another signature", MISMATCH, |upload, _| alter_end(upload.field("x-amz-signature"))),
    alteration("the signature of another grant", MISMATCH, |upload, other| upload.take("x-amz-signature", other)),
    alteration("a signature with an empty secret", MISMATCH, |upload, _| {
        let region = upload.value("x-amz-credential").split('/').nth(REGION).unwrap().to_owned();
        let signing_key = generate_signing_key("", SystemTime::now(), &region, "s3");
        let signature = calculate_signature(signing_key, upload.value("policy").as_bytes());
        upload.set("x-amz-signature", &signature);
    }),
    alteration("an empty signature", INVALID_ARGUMENT, |upload, _| upload.set("x-amz-signature", "")),
    alteration("no signature", INVALID_ARGUMENT, |upload, _| upload.remove("x-amz-signature")),
    alteration("another signature after the granted one", MISMATCH, |upload, other| {
        upload.add("x-amz-signature", other.upload.value("x-amz-signature"));
    }),
    alteration("another signature before the granted one", MISMATCH, |upload, _| {
        upload.prepend("x-amz-signature", "another");
    })
    .accepted_by(BOTH),
    alteration("another access key", INVALID_ACCESS_KEY, |upload, _| {
        upload.set_credential(ACCESS_KEY_ID, "ASIAOTHEREXAMPLE0000");
    }),
    alteration("a credential of another day", INVALID_ARGUMENT, |upload, _| upload.set_credential(DATE, "20010101")),
    alteration("a credential of another region", INVALID_ARGUMENT, |upload, _| {
        upload.set_credential(REGION, "eu-other-1");
    }),
    alteration("a credential of another service", INVALID_ARGUMENT, |upload, _| upload.set_credential(SERVICE, "sts")),
    alteration("another date", DENIED, |upload, _| alter_date(upload.field("x-amz-date"))),
    alteration("another algorithm", INVALID_ARGUMENT, |upload, _| upload.set("x-amz-algorithm", "AWS4-HMAC-SHA1")),
    alteration("a policy that permits more bytes", MISMATCH, |upload, _| {
        upload.file.push(b'a');
        let size = json!(["content-length-range", 1, FILE_CONTENT.len() + 1]);
        upload.rewrite_conditions(|conditions| *conditions.last_mut().unwrap() = size);
    }),
    alteration("a policy without a size", MISMATCH, |upload, _| {
        upload.file.push(b'a');
        upload.rewrite_conditions(|conditions| conditions.retain(Value::is_object));
    }),
    alteration("a policy for any object key", MISMATCH, |upload, _| {
        upload.edit("key", "a.png", "b.png");
        upload.rewrite_conditions(|conditions| conditions[1] = json!(["starts-with", "$key", ""]));
    }),
    alteration("a policy without conditions", MISMATCH, |upload, _| upload.rewrite_conditions(Vec::clear)),
    alteration("a policy that expires later", MISMATCH, |upload, _| {
        upload.rewrite_policy(|policy| policy["expiration"] = json!("2133-12-01T16:00:00Z"));
    }),
    alteration("the policy and the signature of another grant", DENIED, |upload, other| {
        for name in ["policy", "x-amz-signature"] {
            upload.take(name, other);
        }
    }),
    alteration("no policy", INVALID_ARGUMENT, |upload, _| upload.remove("policy")),
    alteration("another policy after the granted one", MISMATCH, |upload, other| {
        upload.add("policy", other.upload.value("policy"));
    }),
    alteration("another policy before the granted one", MISMATCH, |upload, _| upload.prepend("policy", "e30="))
        .accepted_by(BOTH),
    alteration("nothing but the object key", DENIED, |upload, _| {
        upload.fields.retain(|field| ["key", FILE].contains(&&*field.0));
    }),
    alteration(
        "the fields of Signature Version 2",
        &[(403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch")],
        |upload, _| {
            let access_key_id = upload.value("x-amz-credential").split('/').next().unwrap().to_owned();
            upload.fields.retain(|field| !field.0.starts_with("x-amz-") || field.0 == "x-amz-security-token");
            upload.add("AWSAccessKeyId", &access_key_id);
            upload.add("signature", "c2lnbmF0dXJl");
        },
    ),
];

impl Upload {
    #[track_caller]
    fn value(&self, name: &str) -> &str {
        &self.fields.iter().find(|field| field.0 == name).unwrap_or_else(|| panic!("no field {name}")).1
    }

    #[track_caller]
    fn field(&mut self, name: &str) -> &mut String {
        &mut self.fields.iter_mut().find(|field| field.0 == name).unwrap_or_else(|| panic!("no field {name}")).1
    }

    fn set(&mut self, name: &str, value: &str) {
        value.clone_into(self.field(name));
    }

    fn edit(&mut self, name: &str, from: &str, to: &str) {
        replace(self.field(name), from, to);
    }

    fn take(&mut self, name: &str, other: &Other) {
        self.set(name, other.upload.value(name));
    }

    fn set_credential(&mut self, part: usize, value: &str) {
        replace_part(self.field("x-amz-credential"), "/", part, value);
    }

    fn insert(&mut self, index: usize, name: &str, value: &str) {
        self.fields.insert(index, (name.to_owned(), value.to_owned()));
    }

    /// Adds a field before all others.
    fn prepend(&mut self, name: &str, value: &str) {
        self.insert(0, name, value);
    }

    /// Adds a field before the file.
    fn add(&mut self, name: &str, value: &str) {
        let file = self.fields.iter().position(|field| field.0 == FILE).unwrap();
        self.insert(file, name, value);
    }

    /// Adds a field after the file.
    fn append(&mut self, name: &str, value: &str) {
        self.insert(self.fields.len(), name, value);
    }

    fn remove(&mut self, name: &str) {
        self.field(name);
        self.fields.retain(|field| field.0 != name);
    }

    /// Changes the policy, but not its signature.
    fn rewrite_policy(&mut self, rewrite: impl FnOnce(&mut Value)) {
        let policy = self.field("policy");
        let mut json = serde_json::from_slice(&BASE64_STANDARD.decode(&*policy).unwrap()).unwrap();
        rewrite(&mut json);
        *policy = BASE64_STANDARD.encode(json.to_string());
    }

    fn rewrite_conditions(&mut self, rewrite: impl FnOnce(&mut Vec<Value>)) {
        self.rewrite_policy(|policy| rewrite(policy["conditions"].as_array_mut().unwrap()));
    }
}
