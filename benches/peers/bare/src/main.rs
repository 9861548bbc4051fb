//! The floor: a loop over the Lambda Runtime API that returns the request's body. It understands only as much HTTP and
//! JSON as the benchmark sends.

use std::{
    env,
    io::{BufRead as _, BufReader, Error, Read as _, Result, Write as _},
    net::TcpStream,
};

const API: &str = "/2018-06-01/runtime/invocation";

fn main() -> Result<()> {
    let host = env::var("AWS_LAMBDA_RUNTIME_API").map_err(Error::other)?;
    let mut stream = BufReader::new(TcpStream::connect(&host)?);
    stream.get_ref().set_nodelay(true)?;
    loop {
        stream.get_mut().write_all(format!("GET {API}/next HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
        let response = read_response(&mut stream)?;
        let request_id = find_between(&response, "lambda-runtime-aws-request-id: ", "\r\n")?;
        // The body is a JSON string in a JSON object, and is sent back the same way, without being decoded.
        let body = find_between(&response, "\"body\":\"", "\",\"headers\"")?;
        let reply = format!(r#"{{"statusCode":200,"body":"{body}"}}"#);
        let (path, length) = (format!("{API}/{request_id}/response"), reply.len());
        let request = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{reply}");
        stream.get_mut().write_all(request.as_bytes())?;
        read_response(&mut stream)?;
    }
}

fn read_response(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let mut response = String::new();
    while !response.ends_with("\r\n\r\n") {
        if stream.read_line(&mut response)? == 0 {
            return Err(Error::other("the connection has ended"));
        }
    }
    let length = find_between(&response, "content-length: ", "\r\n")?.parse().map_err(Error::other)?;
    stream.take(length).read_to_string(&mut response)?;
    Ok(response)
}

fn find_between<'a>(text: &'a str, start: &str, end: &str) -> Result<&'a str> {
    let rest = text.split_once(start).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.split_once(end)).map(|(found, _)| found).ok_or_else(|| Error::other(start.to_owned()))
}
