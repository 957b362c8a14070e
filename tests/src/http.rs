//! HTTP/1.1 over a plain or a secured connection: one request, one answer, as plain as it gets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What is asked. `Ask::get(endpoint, path)` is a GET over plain text.
#[derive(Clone)]
pub struct Ask<'a> {
    /// `host:port`.
    pub address: &'a str,
    pub tls: Option<Arc<ClientConfig>>,
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a str,
}

/// An answer whose body has not been read yet.
pub struct Answer {
    pub status: u16,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    body: Box<dyn BufRead>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl<'a> Ask<'a> {
    pub fn get(endpoint: &'a str, path: &'a str) -> Self {
        let address = endpoint.split_once("://").map_or(endpoint, |(_, address)| address);
        Self { address, tls: None, method: "GET", path, headers: &[], body: "" }
    }

    pub fn post(endpoint: &'a str, path: &'a str, body: &'a str) -> Self {
        Self { method: "POST", body, ..Self::get(endpoint, path) }
    }

    /// # Errors
    /// When there is no connection, or no answer in time.
    pub fn send(&self) -> Result<Answer> {
        let plain = TcpStream::connect(self.address)?;
        plain.set_read_timeout(Some(ANSWER_WITHIN))?;
        plain.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(plain),
            Some(config) => {
                let (host, _) = self.address.rsplit_once(':').context("host:port")?;
                let name = ServerName::try_from(host.to_owned())?;
                Box::new(StreamOwned::new(ClientConnection::new(config.clone(), name)?, plain))
            }
        };
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.address);
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!(
            "Connection: close\r\nContent-Length: {}\r\n\r\n{}",
            self.body.len(),
            self.body
        ));
        stream.write_all(head.as_bytes())?;
        stream.flush()?;
        Answer::read(BufReader::new(stream))
    }
}

impl Answer {
    fn read(mut stream: BufReader<Box<dyn Stream>>) -> Result<Self> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.trim().parse().ok());
        let Some(status) = status else { bail!("{line:?} is no answer in HTTP") };
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let chunked =
            headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body: Box<dyn BufRead> = match chunked {
            false => Box::new(stream),
            true => Box::new(BufReader::with_capacity(1, Chunks { stream, left: 0 })),
        };
        Ok(Self { status, headers, body })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The next line of a body that goes on; empty at its end.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.body.read_line(&mut line)?;
        Ok(line)
    }

    /// All the rest of the body.
    pub fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.bytes()?)?)
    }

    /// The same if it is no text.
    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.body.read_to_end(&mut bytes) {
            // What a server closes without TLS's goodbye was still said.
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error.into()),
            _ => Ok(bytes),
        }
    }
}

/// Takes the chunks' headers out.
struct Chunks {
    stream: BufReader<Box<dyn Stream>>,
    left: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            if line.trim().is_empty() {
                line.clear();
                self.stream.read_line(&mut line)?;
            }
            self.left = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        }
        let want = buffer.len().min(self.left);
        let read = self.stream.read(&mut buffer[..want])?;
        self.left -= read;
        Ok(read)
    }
}
