//! Requests: redirects, the token, retries, and errors worth reading.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Request, StatusCode, Uri};

use super::HubOptions;
use crate::error::{Error, ErrorKind, Result};

/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 10;
/// Longest pause before a new attempt, whatever the server asks for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A connection to the hub.
pub(super) struct Http {
    agent: ureq::Agent,
    endpoint: String,
    origin: Origin,
    token: Option<String>,
    retries: u32,
    pause: Duration,
}

/// Scheme, host and port: what a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    secure: bool,
    host: String,
    port: u16,
}

/// A response whose body has not been read.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// The headers of the final response.
    pub(super) headers: HeaderMap,
    /// The headers of the hub's own answers, without those of hosts that it redirected to.
    pub(super) hub_headers: HeaderMap,
    body: ureq::Body,
}

impl Reply {
    pub(super) fn into_reader(self) -> impl Read {
        self.body.into_reader()
    }
}

/// Which redirects to follow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// All of them.
    Everywhere,
    /// Those that stay with the hub; another is returned as the answer.
    Hub,
}

impl Http {
    pub(super) fn new(options: &HubOptions) -> Result<Http> {
        let bad = || {
            Error::new(ErrorKind::Argument, "HF_ENDPOINT is not an http or https address")
                .in_file(&options.endpoint)
        };
        let uri: Uri = options.endpoint.parse().map_err(|_| bad())?;
        let origin = Origin::of(&uri).ok_or_else(bad)?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("lazul/", env!("CARGO_PKG_VERSION")))
            // A compressed answer would hide its true size from the limits.
            .accept_encoding("identity")
            .max_response_header_size(64 << 10)
            .timeout_connect(Some(options.timeout))
            .timeout_recv_response(Some(options.timeout.saturating_mul(3)))
            .timeout_per_read(Some(options.timeout));
        if origin.is_loopback() {
            config = config.proxy(None);
        }
        Ok(Http {
            agent: config.build().new_agent(),
            endpoint: options.endpoint.clone(),
            origin,
            token: options.token.clone(),
            retries: options.retries,
            pause: options.retry_pause,
        })
    }

    /// An address on the hub; `path` is encoded already.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    pub(super) fn retries(&self) -> u32 {
        self.retries
    }

    /// Sleeps before attempt `attempt`, at least as long as the server asked for.
    pub(super) fn pause(&self, attempt: u32, asked: Option<Duration>) {
        let backoff = self.pause.saturating_mul(1 << attempt.min(5));
        std::thread::sleep(backoff.max(asked.unwrap_or_default()).min(MAX_PAUSE));
    }

    /// Sends a request, trying again while the failure may pass; a refusal is an error.
    pub(super) fn send(
        &self,
        method: &str,
        url: &str,
        range_from: Option<u64>,
        follow: Follow,
    ) -> Result<Reply> {
        let mut attempt = 0;
        loop {
            let (error, asked) = match self.follow(method, url, range_from, follow) {
                Ok(reply) if passes(reply.status) => return Ok(reply),
                Ok(reply) => {
                    let asked = retry_after(&reply.headers);
                    let may_pass = may_pass(reply.status);
                    let error = self.refusal(&reply).in_file(url);
                    if !may_pass {
                        return Err(error);
                    }
                    (error, asked)
                }
                Err(e) if e.kind() == ErrorKind::Network => (e.in_file(url), None),
                Err(e) => return Err(e.in_file(url)),
            };
            if attempt >= self.retries {
                return Err(error);
            }
            tracing::debug!(%error, "trying again");
            self.pause(attempt, asked);
            attempt = attempt.saturating_add(1);
        }
    }

    fn follow(
        &self,
        method: &str,
        url: &str,
        range_from: Option<u64>,
        follow: Follow,
    ) -> Result<Reply> {
        let network = |what: String| Error::new(ErrorKind::Network, what);
        let mut url = url.to_owned();
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            let uri: Uri = url.parse().map_err(|e| network(format!("a bad address: {e}")))?;
            let origin = Origin::of(&uri).ok_or_else(|| network("a bad address".to_owned()))?;
            let from_hub = origin == self.origin;
            let mut request = Request::builder().method(method).uri(uri);
            if let Some(start) = range_from {
                request = request.header("range", format!("bytes={start}-"));
            }
            // The token is the user's identity with the hub, and nobody else's business.
            if let Some(token) = self.token.as_ref().filter(|_| from_hub) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let request = request.body(()).map_err(|e| network(e.to_string()))?;
            let response = self.agent.run(request).map_err(|e| network(e.to_string()))?;
            let (parts, body) = response.into_parts();
            if from_hub {
                hub_headers.extend(parts.headers.clone());
            }
            let moved = matches!(parts.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let next = match parts.headers.get("location").filter(|_| moved) {
                Some(location) => {
                    let text = location.to_str().map_err(|e| network(e.to_string()))?;
                    Some(origin.join(&url, text)?)
                }
                None => None,
            };
            match next {
                Some((next, target)) if follow == Follow::Everywhere || target == self.origin => {
                    if origin.secure && !target.secure {
                        return Err(network("a redirect from https to http".to_owned()));
                    }
                    url = next;
                }
                _ => {
                    let (status, headers) = (parts.status, parts.headers);
                    return Ok(Reply { status, headers, hub_headers, body });
                }
            }
        }
        Err(network(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Says why the server refused, in words that help.
    fn refusal(&self, reply: &Reply) -> Error {
        let header = |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok());
        let code = header("x-error-code").unwrap_or_default();
        let message = header("x-error-message").unwrap_or_default();
        let token = match self.token {
            Some(_) => "the token may not allow it",
            None => "set HF_TOKEN if it is private",
        };
        let status = reply.status.as_u16();
        let (kind, text) = match (status, code) {
            (_, "GatedRepo") => (
                ErrorKind::Denied,
                "the repository is gated: ask for access on its page and set HF_TOKEN".to_owned(),
            ),
            (_, "EntryNotFound") => {
                (ErrorKind::NotFound, "the repository has no such file".to_owned())
            }
            (_, "RevisionNotFound") => {
                (ErrorKind::NotFound, "the repository has no such revision".to_owned())
            }
            (404, _) => {
                (ErrorKind::NotFound, format!("there is no such repository or file; {token}"))
            }
            (401, _) => (
                ErrorKind::Denied,
                format!("there is no such repository, or it is private; {token}"),
            ),
            (403, _) => (ErrorKind::Denied, format!("access is denied; {token}")),
            (429, _) => (ErrorKind::Network, "the server asks for fewer requests".to_owned()),
            _ => (ErrorKind::Network, "the server failed".to_owned()),
        };
        let shown = if message.is_empty() { String::new() } else { format!(": {message}") };
        Error::new(kind, format!("{text} (HTTP {status}){shown}"))
    }
}

/// Statuses that are answers. A redirect is one where it was not to be followed, and 416 tells a
/// download to begin again.
fn passes(status: StatusCode) -> bool {
    status.is_success() || status.is_redirection() || status == StatusCode::RANGE_NOT_SATISFIABLE
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 408 | 429)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after")?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

impl Origin {
    fn of(uri: &Uri) -> Option<Origin> {
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        Some(Origin { secure, host: authority.host().to_ascii_lowercase(), port })
    }

    fn is_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }

    /// Where a `Location` leads from `base`, which is on this origin.
    fn join(&self, base: &str, location: &str) -> Result<(String, Origin)> {
        let bad = || Error::new(ErrorKind::Network, format!("a bad redirect to {location:?}"));
        let whole = if location.starts_with("//") {
            format!("{}:{location}", if self.secure { "https" } else { "http" })
        } else if location.starts_with('/') {
            let start = base.find("://").map_or(0, |at| at.saturating_add(3));
            let path = base.get(start..).and_then(|rest| rest.find('/'));
            let end = path.map_or(base.len(), |at| start.saturating_add(at));
            format!("{}{location}", base.get(..end).unwrap_or_default())
        } else {
            location.to_owned()
        };
        let uri: Uri = whole.parse().map_err(|_| bad())?;
        let origin = Origin::of(&uri).ok_or_else(bad)?;
        Ok((whole, origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> Option<Origin> {
        Origin::of(&url.parse().ok()?)
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        assert_eq!(origin("https://Hub.co/a"), origin("https://hub.co:443/b"));
        assert_ne!(origin("https://hub.co"), origin("http://hub.co"));
        assert_ne!(origin("https://hub.co"), origin("https://hub.co.evil.net"));
        assert_ne!(origin("https://hub.co"), origin("https://hub.co:444"));
        for bad in ["https://hub.co@evil.net/", "ftp://hub.co", "file:///etc/passwd", "/x"] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }

    #[test]
    fn redirects_are_joined() {
        let from = origin("http://hub.co:80").unwrap();
        let join = |to: &str| from.join("http://hub.co:80/a/b?c", to).map(|(url, _)| url).ok();
        assert_eq!(join("/x?y").as_deref(), Some("http://hub.co:80/x?y"));
        assert_eq!(join("https://cdn.net/x").as_deref(), Some("https://cdn.net/x"));
        assert_eq!(join("//cdn.net/x").as_deref(), Some("http://cdn.net/x"));
        for bad in ["x", "file:///etc/passwd", "javascript:x", "http://u:p@h/", ""] {
            assert_eq!(join(bad), None, "{bad}");
        }
    }
}
