//! The floor: a loop over the Lambda Runtime API that answers with the body that came in, and nothing else. It reads just
//! as much of HTTP and JSON as the benchmark sends.

use std::{
    env,
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

const API: &str = "/2018-06-01/runtime/invocation";

fn main() -> io::Result<()> {
    let host = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let mut stream = TcpStream::connect(&host)?;
    stream.set_nodelay(true)?;
    loop {
        write!(stream, "GET {API}/next HTTP/1.1\r\nhost: {host}\r\n\r\n")?;
        let (head, event) = response(&mut stream)?;
        let request_id = between(&head, "lambda-runtime-aws-request-id: ", "\r\n")?;
        // The body is a JSON string in a JSON object: what stands between its quotes is one in the answer as well.
        let body = between(&event, "\"body\":\"", "\",\"headers\"")?;
        let answer = format!(r#"{{"statusCode":200,"body":"{body}"}}"#);
        let length = answer.len();
        let request = format!(
            "POST {API}/{request_id}/response HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{answer}"
        );
        stream.write_all(request.as_bytes())?;
        response(&mut stream)?;
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> io::Result<&'a str> {
    let rest = text.split_once(start).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once(end)).map(|(found, _)| found).ok_or_else(|| io::Error::other("not there"))
}

/// The head of an HTTP response, and its body.
fn response(stream: &mut TcpStream) -> io::Result<(String, String)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length: usize = between(head, "content-length: ", "\r\n")
                .or_else(|_| {
                    head.rsplit_once("content-length: ")
                        .map(|(_, length)| length)
                        .ok_or_else(|| io::Error::other("no length"))
                })?
                .parse()
                .map_err(io::Error::other)?;
            if body.len() >= length {
                return Ok((head.to_owned(), body.to_owned()));
            }
        }
    }
}
