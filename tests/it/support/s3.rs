//! An S3 server backed by a folder, which checks every signature and every policy.

use std::{fs, net::SocketAddr, path::PathBuf};

use s3s::{auth::SimpleAuth, host::SingleDomain, service::S3ServiceBuilder};
use s3s_fs::FileSystem;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    app::{ACCESS_KEY_ID, SECRET_ACCESS_KEY},
    server::serve,
    upload::alterations::Objects,
};

/// An S3 server with two buckets, which start empty.
pub(crate) struct S3 {
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl S3 {
    const BUCKETS: [&str; 2] = ["uploads", "other"];

    /// The domain of the virtual hosts, which are named after a bucket.
    pub(crate) const DOMAIN: &str = "s3.example.com";

    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for bucket in Self::BUCKETS {
            fs::create_dir(folder.path().join(bucket)).unwrap();
        }
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        service.set_host(SingleDomain::new(Self::DOMAIN).unwrap());
        let address = serve(service.build()).await;
        Self { address, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn bucket_folders(&self) -> impl Iterator<Item = PathBuf> {
        Self::BUCKETS.iter().map(|bucket| self.folder.path().join(bucket))
    }

    /// Whether no bucket contains an object.
    pub(crate) fn is_empty(&self) -> bool {
        self.bucket_folders().all(|bucket| fs::read_dir(bucket).unwrap().next().is_none())
    }

    /// Reads an object.
    pub(crate) fn object(&self, object_key: &Value) -> Option<Vec<u8>> {
        fs::read(self.folder.path().join("uploads").join(object_key.as_str()?)).ok()
    }

    /// Removes all objects and returns them.
    pub(crate) fn take_objects(&self) -> Objects {
        let mut objects = Vec::new();
        for bucket in self.bucket_folders() {
            let mut folders = vec![bucket.clone()];
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        folders.push(path);
                    } else {
                        let object_key = path.strip_prefix(&bucket).unwrap().to_str().unwrap().to_owned();
                        objects.push((object_key, fs::read(path).unwrap().len()));
                    }
                }
            }
            fs::remove_dir_all(&bucket).unwrap();
            fs::create_dir(&bucket).unwrap();
        }
        objects
    }
}
