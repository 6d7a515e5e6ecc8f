//! A small HTTP client for the daemon's API: over TCP, TLS or a Unix socket, one
//! connection a request. Only the command line uses it; deliveries have their own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use url::Url;

use super::{Failure, output};
use crate::config::environment;
use crate::limits::{CLIENT_ANSWER_BYTES_MAX, CLIENT_TIMEOUT, PAGE_MAX};
use crate::model::Fault;
use crate::secret::Secret;

const URL_DEFAULT: &str = "http://127.0.0.1:8470";

/// Which daemon, and who calls.
#[derive(clap::Args, Default)]
pub(super) struct ClientArgs {
    /// The daemon's API, or unix:PATH of its socket; else POSTHASTE_URL, else http://127.0.0.1:8470
    #[arg(long, value_name = "URL", conflicts_with = "socket")]
    url: Option<Url>,
    /// The daemon's Unix socket, in place of --url unix:PATH
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// A file with the API token, which not everybody may read
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The API token itself; others on this machine may see it, so prefer --token-file or POSTHASTE_TOKEN
    #[arg(long)]
    token: Option<String>,
    /// An authority to trust beside the platform's, in PEM
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// Calls one daemon.
#[derive(Clone)]
pub(super) struct Client {
    target: Target,
    /// For messages.
    name: String,
    host: String,
    base_path: String,
    token: Option<Secret>,
}

#[derive(Clone)]
enum Target {
    Tcp { host: String, port: u16, tls: Option<(TlsConnector, ServerName<'static>)> },
    Unix(PathBuf),
}

/// What the daemon answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    /// As the arguments and the environment say.
    pub(super) fn new(args: ClientArgs) -> Result<Client, Failure> {
        let token = match (args.token, args.token_file) {
            (Some(token), _) => Some(Secret::new(token)),
            (None, Some(path)) => {
                let text = String::from_utf8_lossy(&output::read_secret(&path)?).trim().to_owned();
                Some(Secret::new(text))
            }
            (None, None) => environment::secret(environment::TOKEN),
        };
        if let Some(path) = args.socket {
            return Ok(Client::of_socket(path, token));
        }
        let url = match (args.url, environment::text(environment::URL)) {
            (Some(url), _) => url,
            (None, Some(text)) => {
                Url::parse(&text).map_err(|error| Failure::usage(format!("POSTHASTE_URL is not a URL: {error}")))?
            }
            (None, None) => Url::parse(URL_DEFAULT).map_err(|error| Failure::usage(error.to_string()))?,
        };
        Client::of_url(&url, token, args.ca_file)
    }

    fn of_socket(path: PathBuf, token: Option<Secret>) -> Client {
        let name = format!("unix:{}", path.display());
        Client { target: Target::Unix(path), name, host: "localhost".to_owned(), base_path: String::new(), token }
    }

    /// A client of the API at `url`, which may be a socket, as in `[service] listen`.
    pub(super) fn of_url(url: &Url, token: Option<Secret>, ca_file: Option<PathBuf>) -> Result<Client, Failure> {
        let wrong = || Failure::usage(format!("{url} is not the URL of an API: it must be like {URL_DEFAULT}"));
        if url.scheme() == "unix" {
            let path = percent_decode_str(url.path()).collect::<Vec<u8>>();
            return Ok(Client::of_socket(PathBuf::from(OsString::from_vec(path)), token));
        }
        let host = url.host_str().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().ok_or_else(wrong)?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
                Some((connector(ca_file)?, name))
            }
            _ => return Err(wrong()),
        };
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        Ok(Client {
            target: Target::Tcp { host, port, tls },
            name: url.to_string(),
            host: authority.to_owned(),
            base_path: url.path().trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// Asks for `path`.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// Sends JSON to `path`, with some more headers.
    pub(super) async fn post(&self, path: &str, headers: &[(&str, &str)], body: String) -> Result<Answer, Failure> {
        self.send(Method::POST, path, headers, Bytes::from(body)).await
    }

    /// Calls `path` with JSON, where there is any, and reads the JSON answered.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        self.send(method, path, &[], body).await?.accepted()
    }

    /// What the list at `path` holds, page by page, at most `limit` entries. `query`
    /// is what it is asked for; what is `None` is not.
    pub(super) async fn list(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
        limit: usize,
    ) -> Result<Vec<Value>, Failure> {
        let mut entries = Vec::new();
        let mut cursor: Option<String> = None;
        while entries.len() < limit {
            let page_limit = (limit - entries.len()).min(PAGE_MAX).to_string();
            let paging = [("limit", Some(page_limit.as_str())), ("cursor", cursor.as_deref())];
            let mut text = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in query.iter().chain(&paging) {
                text.extend_pairs(value.map(|value| (*name, value)));
            }
            let page = self.get(&format!("{path}?{}", text.finish())).await?.accepted()?;
            entries.extend(page["data"].as_array().into_iter().flatten().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        Ok(entries)
    }

    /// Asks for `path`, and hands on what comes as it comes.
    pub(super) async fn download(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let request = self.request(Method::GET, path, &[], Bytes::new())?;
        let unreachable = |problem: String| self.unreachable(&problem);
        let broke = |problem: &str| Failure::failed(format!("the answer broke off: {problem}"));
        let begun = async {
            let stream = self.connect().await.map_err(|error| unreachable(error.to_string()))?;
            let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = shaken.map_err(|error| unreachable(error.to_string()))?;
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))?;
            Ok((sender, connection, response))
        };
        let in_time = tokio::time::timeout(CLIENT_TIMEOUT, begun).await;
        let (_sender, connection, response) = in_time.map_err(|_| self.too_late())??;
        let (head, mut body) = response.into_parts();
        if !head.status.is_success() {
            let body = Limited::new(body, CLIENT_ANSWER_BYTES_MAX).collect();
            let body = tokio::time::timeout(CLIENT_TIMEOUT, body).await.map_err(|_| self.too_late())?;
            let body = body.map_err(|error| broke(&error.to_string()))?.to_bytes();
            return Answer { status: head.status, body }.accepted().map(|_| ());
        }
        loop {
            let frame = tokio::time::timeout(CLIENT_TIMEOUT, body.frame()).await;
            let Some(frame) = frame.map_err(|_| broke("nothing came for too long"))? else { break };
            let frame = frame.map_err(|error| broke(&error.to_string()))?;
            if let Some(part) = frame.data_ref() {
                take(part)?;
            }
        }
        connection.abort();
        Ok(())
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Answer, Failure> {
        let request = self.request(method, path, headers, body)?;
        let exchange = async { self.exchange(request).await.map_err(|problem| self.unreachable(&problem)) };
        match tokio::time::timeout(CLIENT_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(self.too_late()),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request =
            Request::builder().method(&method).uri(format!("{}{path}", self.base_path)).header(HOST, &self.host);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).map_err(|_| Failure::usage("a header cannot be sent: it has control characters"))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let stream = self.connect().await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), CLIENT_ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
            Ok(Answer { status, body })
        };
        let answer = answer.await;
        connection.abort();
        answer
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        match &self.target {
            Target::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Target::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                match tls {
                    None => Ok(Box::new(stream)),
                    Some((connector, name)) => Ok(Box::new(connector.connect(name.clone(), stream).await?)),
                }
            }
        }
    }

    fn too_late(&self) -> Failure {
        self.unreachable(&format!("no answer within {} s", CLIENT_TIMEOUT.as_secs()))
    }

    fn unreachable(&self, problem: &str) -> Failure {
        Failure::unreachable(format!(
            "no answer from {}: {problem}; is the daemon running (`posthaste serve`), and is this its address?",
            self.name
        ))
    }
}

fn connector(ca_file: Option<PathBuf>) -> Result<TlsConnector, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let not_pem = || Failure::usage(format!("{} holds no certificate in PEM", path.display()));
        let pem = output::read_input(&path)?;
        let certificates: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| not_pem())?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(not_pem());
        }
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::failed(format!("no TLS client can be made: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Answer {
    /// The JSON of a 2xx answer; else what the daemon says against it.
    pub(super) fn accepted(&self) -> Result<Value, Failure> {
        if !self.status.is_success() {
            return Err(Failure::refused(self.problem()));
        }
        if self.status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body)
            .map_err(|_| Failure::failed("the answer is not JSON: is this the address of a Posthaste API?"))
    }

    /// The faults that the answer's problem names; one of no field where it names none.
    pub(super) fn faults(&self) -> Vec<Fault> {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |fault: &Value, name: &str| fault[name].as_str().unwrap_or_default().to_owned();
        let named = problem["errors"].as_array().into_iter().flatten();
        let faults: Vec<Fault> = named.map(|fault| Fault::new(text(fault, "field"), text(fault, "message"))).collect();
        if faults.is_empty() { vec![Fault::new("", self.problem())] } else { faults }
    }

    /// What the answer's problem says in its own words.
    pub(super) fn detail(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let said = problem["detail"].as_str().or(problem["title"].as_str());
        output::printable(said.unwrap_or("its log says why"))
    }

    /// The answer's problem (RFC 9457) as one line that ends with what to do next.
    fn problem(&self) -> String {
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let text = |name: &str| problem.get(name).and_then(Value::as_str);
        let mut line = format!("refused: {}", self.status);
        let said = text("detail").or(text("title")).unwrap_or_default();
        let faults: Vec<String> =
            problem.get("errors").and_then(Value::as_array).into_iter().flatten().map(fault).collect();
        // What is said is the first fault, where nothing else is: it is told once.
        let repeats = faults.first().is_some_and(|first| said.starts_with(first.as_str()));
        let sentences = (!said.is_empty() && !repeats).then_some(said).into_iter();
        for (index, sentence) in sentences.chain(faults.iter().map(String::as_str)).enumerate() {
            line.push_str(if index == 0 { ": " } else { "; " });
            line.push_str(sentence);
        }
        if let Some(next) = text("code").or((self.status == StatusCode::UNAUTHORIZED).then_some("unauthenticated")) {
            line.extend(what_next(next).map(|next| format!("; {next}")));
        }
        output::printable(&line)
    }
}

/// A fault of one field, as the daemon's own sentences say it.
fn fault(fault: &Value) -> String {
    let part = |name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default();
    let field = Some(part("field")).filter(|field| !field.is_empty()).unwrap_or("the body");
    format!("{field} {}", part("message"))
}

/// What helps against a problem, by its stable code.
fn what_next(code: &str) -> Option<&'static str> {
    Some(match code {
        "unauthenticated" => "give a token by --token-file or POSTHASTE_TOKEN",
        "expired_key" => "`posthaste key new` makes another",
        "forbidden" => "`posthaste key new --role ROLE` makes a key that may",
        "not_enabled" => "`posthaste subscriptions enable NAME` first",
        "managed_by_file" => "change the file that declares it, and reload the daemon",
        "expired" => "`posthaste subscriptions update NAME --set expires_at=TIME` first",
        "too_many_secrets" => "`posthaste subscriptions rotate NAME --overlap 0s` ends the older ones",
        "host_refused" => "name this host in [service] hosts of the daemon's configuration",
        "storage_full" => "free space on the disk or raise [storage] max_bytes; `posthaste status` shows what is used",
        "busy" | "outcome_unknown" | "too_many_requests" | "unavailable" | "under_way" => "try again in a moment",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exit;

    #[test]
    fn urls_say_where_to_dial() {
        for (url, host_header, base_path) in [
            ("http://127.0.0.1:8470", "127.0.0.1:8470", ""),
            ("http://[::1]:8470/", "[::1]:8470", ""),
            ("https://hooks.example.com/api/", "hooks.example.com", "/api"),
        ] {
            let client = Client::of_url(&Url::parse(url).expect("a URL"), None, None).unwrap_or_else(|f| panic!("{f}"));
            assert_eq!((client.host.as_str(), client.base_path.as_str()), (host_header, base_path));
        }
        for (url, path) in [("unix:/run/x/api.sock", "/run/x/api.sock"), ("unix:/a b/é", "/a b/é")] {
            let client = Client::of_url(&Url::parse(url).expect("a URL"), None, None).unwrap_or_else(|f| panic!("{f}"));
            assert!(matches!(&client.target, Target::Unix(dialled) if dialled.as_os_str() == path), "{url}");
        }
        for wrong in ["ftp://a", "data:,x"] {
            let failure = Client::of_url(&Url::parse(wrong).expect("a URL"), None, None).err().expect(wrong);
            assert_eq!(failure.exit, Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_is_one_line_with_every_fault() {
        let body = r#"{"title":"Invalid","detail":"2 faults","errors":[{"field":"url","message":"is missing"}]}"#;
        let answer = Answer { status: StatusCode::UNPROCESSABLE_ENTITY, body: Bytes::from(body) };
        let failure = answer.accepted().expect_err("refused");
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.message, "refused: 422 Unprocessable Entity: 2 faults; url is missing");
    }

    /// The daemon's `detail` is the first fault where it has nothing to add; both were
    /// printed, one after the other.
    #[test]
    fn what_is_said_twice_is_told_once_and_then_what_to_do() {
        for (status, body, told) in [
            (
                422,
                r#"{"detail":"url is missing","errors":[{"field":"url","message":"is missing"}]}"#,
                ": url is missing",
            ),
            (
                422,
                r#"{"detail":"url is missing (and 1 more)","errors":[{"field":"url","message":"is missing"},
                    {"field":"","message":"must be an object"}]}"#,
                ": url is missing; the body must be an object",
            ),
            (422, r#"{"detail":"the body x","errors":[{"field":"","message":"x"}]}"#, ": the body x"),
            (503, r#"{"title":"Too busy","code":"busy"}"#, ": Too busy; try again in a moment"),
            (401, "", "; give a token by --token-file or POSTHASTE_TOKEN"),
            (404, "no JSON", ""),
        ] {
            let answer = Answer { status: StatusCode::from_u16(status).expect("one"), body: Bytes::from(body) };
            let message = answer.accepted().expect_err("refused").message;
            assert_eq!(message, format!("refused: {}{told}", answer.status));
        }
    }

    #[tokio::test]
    async fn a_daemon_that_is_not_there_is_unreachable() {
        let folder = tempfile::tempdir().expect("a folder");
        let args = ClientArgs {
            url: None,
            socket: Some(folder.path().join("none.sock")),
            token_file: None,
            token: None,
            ca_file: None,
        };
        let client = Client::new(args).unwrap_or_else(|failure| panic!("{failure}"));
        let failure = client.get("/readyz").await.err().expect("nobody there");
        assert_eq!(failure.exit, Exit::Unreachable);
    }
}
