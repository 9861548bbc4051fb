import AwsS3 from "@uppy/aws-s3";
import Uppy from "@uppy/core";
import Dashboard from "@uppy/dashboard";
import GoldenRetriever from "@uppy/golden-retriever";
import "@uppy/core/css/style.min.css";
import "@uppy/dashboard/css/style.min.css";

import { listObjectKeys, settings } from "../page.js";
import { presignedUpload } from "./presigned-upload.js";

const uppy = new Uppy({ id: "uppy-5" });
uppy.use(Dashboard, { inline: true, target: "#uppy", theme: "auto", width: "100%", height: 420 });
// A file of more than 10 MiB has to be chosen again after a reload; Uppy then continues its upload.
uppy.use(GoldenRetriever, { indexedDB: { dbName: "uppy-5" } });
uppy.use(AwsS3, presignedUpload(uppy, AwsS3, settings()));
listObjectKeys(uppy);
