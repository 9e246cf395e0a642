//! The hub client against a server that misbehaves in every way we could think of.

#![cfg(feature = "hub")]

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lazul_io::ErrorKind;
use lazul_io::hub::{Hub, HubOptions, Progress, RepoId};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const SMALL: &str = "1111111111111111111111111111111111111111";

#[derive(Clone, Debug)]
struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
}

impl Request {
    fn range(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

#[derive(Clone, Default)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Send only so many bytes of the body, then hang up.
    cut: Option<usize>,
    /// Send nothing for a while first.
    stall: Option<Duration>,
}

impl Reply {
    fn new(status: u16) -> Reply {
        Reply { status, ..Default::default() }
    }

    fn ok(body: impl Into<Vec<u8>>) -> Reply {
        Reply { body: body.into(), ..Reply::new(200) }
    }

    fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

type Handler = dyn Fn(&Request, usize) -> Reply + Send + Sync;

/// A server on a port of its own; the handler gets each request and how often it came before.
struct Server {
    url: String,
    log: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let seen = log.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen) = (handler.clone(), seen.clone());
                std::thread::spawn(move || {
                    let _ = serve(stream, &*handler, &seen);
                });
            }
        });
        Server { url, log }
    }

    fn requests(&self, method: &str, part: &str) -> Vec<Request> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|r| r.method == method && r.path.contains(part)).cloned().collect()
    }
}

fn serve(stream: TcpStream, handler: &Handler, log: &Mutex<Vec<Request>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let mut next = || words.next().unwrap_or_default().to_owned();
    let mut request = Request { method: next(), path: next(), headers: HashMap::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().split_once(':') {
            Some((name, value)) => {
                request.headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
            None => break,
        }
    }
    let before = {
        let mut log = log.lock().unwrap();
        let same = |r: &&Request| r.method == request.method && r.path == request.path;
        let before = log.iter().filter(same).count();
        log.push(request.clone());
        before
    };
    let reply = handler(&request, before);
    std::thread::sleep(reply.stall.unwrap_or_default());
    let mut out = stream;
    let mut head = format!("HTTP/1.1 {} X\r\nconnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    out.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        out.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())])?;
    }
    out.flush()?;
    // Let the client read everything before the connection is reset.
    out.shutdown(std::net::Shutdown::Write)?;
    let _ = reader.read(&mut [0; 64]);
    Ok(())
}

fn options(server: &Server, cache: &Path) -> HubOptions {
    let mut options = HubOptions::new(cache);
    options.endpoint = server.url.clone();
    options.retries = 2;
    options.retry_pause = Duration::from_millis(5);
    options.timeout = Duration::from_secs(5);
    options
}

fn hub(server: &Server, cache: &Path) -> Hub {
    Hub::new(options(server, cache)).unwrap()
}

fn repo() -> RepoId {
    "org/tiny".parse().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

fn listing(names: &[&str]) -> Reply {
    let files: Vec<String> = names.iter().map(|n| format!("{{\"rfilename\":\"{n}\"}}")).collect();
    Reply::ok(format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", files.join(",")))
}

/// The hub's answer for a file that it serves itself.
fn direct(body: &[u8], etag: &str) -> Reply {
    Reply::ok(body).with("etag", format!("\"{etag}\"")).with("x-repo-commit", COMMIT)
}

/// A ranged answer to a request that asked for one.
fn ranged(request: &Request, body: &[u8], etag: &str) -> Reply {
    match request.range() {
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
            let part = direct(&body[start..], etag).with("content-range", range);
            Reply { status: 206, ..part }
        }
        None => direct(body, etag),
    }
}

fn data(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Names below the repository's folder, links marked with their target.
fn tree(cache: &Path) -> Vec<String> {
    fn walk(base: &Path, at: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(base).unwrap().display().to_string();
            match fs::read_link(&path) {
                Ok(target) => out.push(format!("{name} -> {}", target.display())),
                Err(_) if path.is_dir() => walk(base, &path, out),
                Err(_) => out.push(name),
            }
        }
    }
    let base = cache.join("models--org--tiny");
    let mut out = Vec::new();
    walk(&base, &base, &mut out);
    out.sort();
    out
}

#[test]
fn a_snapshot_lands_where_python_expects_it_and_the_token_stays_with_the_hub() {
    let weights = data(100_000);
    let hash = sha256(&weights);
    let cdn_body = weights.clone();
    let cdn = Server::start(move |r, _| match r.range() {
        None => Reply::ok(&*cdn_body),
        Some(_) => Reply::new(416),
    });
    let (etag, size) = (hash.clone(), weights.len());
    let location = format!("{}/blob?signed=1", cdn.url);
    let server = Server::start(move |r, _| match r.path.as_str() {
        "/api/models/org/tiny/revision/main" => {
            listing(&["config.json", "model.safetensors", "sub/x.json", "evil.py"])
        }
        path if path.ends_with("model.safetensors") => Reply::new(302)
            .with("location", &location)
            .with("x-linked-etag", format!("\"{etag}\""))
            .with("x-linked-size", size)
            .with("x-repo-commit", COMMIT)
            .with("etag", "\"of-the-pointer\""),
        path if path.ends_with("config.json") => direct(b"{\"model_type\":\"tiny\"}", SMALL),
        path if path.ends_with("sub/x.json") => direct(b"{}", &SMALL.replace('1', "2")),
        _ => Reply::new(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(&server, cache.path());
    options.token = Some("hf_secret".to_owned());
    let hub = Hub::new(options).unwrap();
    let wanted = |name: &str| !name.ends_with(".py");
    let path = hub.snapshot(&repo(), "main", wanted).unwrap();

    assert_eq!(fs::read(path.join("model.safetensors")).unwrap(), weights);
    let two = SMALL.replace('1', "2");
    let mut expected = vec![
        format!("blobs/{SMALL}"),
        format!("blobs/{two}"),
        format!("blobs/{hash}"),
        "refs/main".to_owned(),
        format!("snapshots/{COMMIT}/config.json -> ../../blobs/{SMALL}"),
        format!("snapshots/{COMMIT}/model.safetensors -> ../../blobs/{hash}"),
        format!("snapshots/{COMMIT}/sub/x.json -> ../../../blobs/{two}"),
    ];
    expected.sort();
    assert_eq!(tree(cache.path()), expected);
    assert_eq!(
        fs::read_to_string(cache.path().join("models--org--tiny/refs/main")).unwrap(),
        COMMIT
    );

    let all = server.requests("GET", "");
    assert!(all.iter().all(|r| r.headers["authorization"] == "Bearer hf_secret"));
    assert!(all.iter().all(|r| r.headers["accept-encoding"] == "identity"));
    let away = cdn.requests("GET", "/blob");
    assert_eq!(away.len(), 1);
    assert!(!away[0].headers.contains_key("authorization"));

    // Once more: the listing alone is asked for.
    hub.snapshot(&repo(), "main", wanted).unwrap();
    assert_eq!(server.requests("GET", "/resolve/").len(), 3);
    assert_eq!(server.requests("GET", "/api/").len(), 2);
    // The snapshot opens as a model, through links into blobs.
    let model = hub.model(&repo(), "main").unwrap();
    assert_eq!(model.model_type(), Some("tiny"));
}

#[derive(Default)]
struct Watch(Mutex<Vec<String>>);

impl Progress for Watch {
    fn begin(&self, file: &str, total: Option<u64>, present: u64) {
        self.0.lock().unwrap().push(format!("begin {file} {total:?} {present}"));
    }
    fn advance(&self, _: &str, bytes: u64) {
        assert!(bytes > 0);
    }
    fn end(&self, file: &str) {
        self.0.lock().unwrap().push(format!("end {file}"));
    }
}

#[test]
fn a_broken_download_is_resumed_and_verified() {
    let body = data(50_000);
    let hash = sha256(&body);
    let (sent, etag) = (body.clone(), hash.clone());
    let server = Server::start(move |r, before| {
        let reply = ranged(r, &sent, &etag);
        match (r.method.as_str(), before) {
            ("GET", 0) => Reply { cut: Some(20_000), ..reply },
            ("GET", 1) => Reply { cut: Some(5_000), ..reply },
            _ => reply,
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let watch = Arc::new(Watch::default());
    let hub = hub(&server, cache.path()).with_progress(watch.clone());
    let path = hub.file(&repo(), "main", "w.bin").unwrap();
    assert_eq!(fs::read(path).unwrap(), body);
    let ranges: Vec<_> = server.requests("GET", "").iter().map(Request::range).collect();
    assert_eq!(ranges, [None, Some(20_000), Some(25_000)]);
    let steps = watch.0.lock().unwrap().clone();
    assert_eq!(steps[2], "begin w.bin Some(50000) 25000");
    assert_eq!(steps.last().unwrap(), "end w.bin");
}

#[test]
fn what_another_program_left_is_continued_or_replaced() {
    let body = data(1000);
    let hash = sha256(&body);
    let run = |left: &[u8], supports_ranges: bool| {
        let (sent, etag) = (body.clone(), hash.clone());
        let server = Server::start(move |r, _| match supports_ranges {
            true => ranged(r, &sent, &etag),
            false => direct(&sent, &etag),
        });
        let cache = tempfile::tempdir().unwrap();
        let blobs = cache.path().join("models--org--tiny/blobs");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(blobs.join(format!("{hash}.incomplete")), left).unwrap();
        let path = hub(&server, cache.path()).file(&repo(), "main", "w.bin").unwrap();
        assert_eq!(fs::read(path).unwrap(), body);
        assert!(!blobs.join(format!("{hash}.incomplete")).exists());
        server.requests("GET", "").iter().map(Request::range).collect::<Vec<_>>()
    };
    assert_eq!(run(&body[..400], true), [Some(400)]);
    assert_eq!(run(&body, true), []);
    // A server that ignores ranges sends everything again.
    assert_eq!(run(&body[..400], false), [Some(400)]);
    // Too much, or something else: the hash finds it and the second try starts afresh.
    assert_eq!(run(&[9; 2000], true), [None]);
    assert_eq!(run(&[9; 400], true), [Some(400), None]);
}

#[test]
fn a_file_that_changes_during_the_download_is_never_mixed() {
    let (old, new) = (vec![1u8; 3000], vec![2u8; 3000]);
    let (old_hash, new_hash) = (sha256(&old), sha256(&new));
    let hashes = (old_hash.clone(), new_hash.clone());
    let server = Server::start(move |r, before| match (r.method.as_str(), before) {
        ("HEAD", 0) => direct(&old, &hashes.0),
        ("GET", 0) => Reply { cut: Some(1000), ..direct(&old, &hashes.0) },
        // The second HEAD still sees the old state; the second GET does not.
        ("HEAD", 1) => direct(&old, &hashes.0),
        _ => ranged(r, &new, &hashes.1),
    });
    let cache = tempfile::tempdir().unwrap();
    let path = hub(&server, cache.path()).file(&repo(), "main", "w.bin").unwrap();
    assert_eq!(fs::read(path).unwrap(), vec![2u8; 3000]);
    let tree = tree(cache.path());
    assert!(tree.contains(&format!("blobs/{new_hash}")));
    assert!(!tree.iter().any(|name| name.contains(&old_hash)));
}

#[test]
fn wrong_lengths_and_hashes_never_become_visible() {
    let body = data(1000);
    let hash = sha256(&body);
    let wrong = |reply: Reply, kind: ErrorKind| {
        let head = direct(&data(1000), &sha256(&data(1000)));
        let server = Server::start(move |r, _| match r.method.as_str() {
            "HEAD" => head.clone(),
            _ => reply.clone(),
        });
        let cache = tempfile::tempdir().unwrap();
        let error = hub(&server, cache.path()).file(&repo(), "main", "w.bin").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let tree = tree(cache.path());
        assert!(tree.iter().all(|name| name.ends_with(".incomplete")), "{tree:?}");
    };
    // Another length than announced; another content of that length.
    wrong(direct(&body[..500], &hash), ErrorKind::Corrupt);
    wrong(direct(&data(1001), &hash), ErrorKind::Corrupt);
    wrong(direct(&[0; 1000], &hash), ErrorKind::Corrupt);
    // Announced in full and cut short, again and again.
    wrong(Reply { cut: Some(0), ..direct(&body, &hash) }, ErrorKind::Network);
    // A part nobody asked for.
    let part = Reply { status: 206, ..direct(&body, &hash) };
    wrong(part.with("content-range", "bytes 5-999/1000"), ErrorKind::Changed);
}

#[test]
fn refusals_are_typed_and_passing_failures_are_tried_again() {
    let cache = tempfile::tempdir().unwrap();
    let refused = |status: u16, code: &'static str| {
        let server = Server::start(move |_, _| {
            Reply::new(status).with("x-error-code", code).with("x-error-message", "because")
        });
        let error = hub(&server, cache.path()).snapshot(&repo(), "main", |_| true).unwrap_err();
        assert!(error.to_string().contains("because"), "{error}");
        (error.kind(), server.requests("GET", "").len())
    };
    assert_eq!(refused(401, ""), (ErrorKind::Denied, 1));
    assert_eq!(refused(403, "GatedRepo"), (ErrorKind::Denied, 1));
    assert_eq!(refused(404, "RepoNotFound"), (ErrorKind::NotFound, 1));
    assert_eq!(refused(404, "RevisionNotFound"), (ErrorKind::NotFound, 1));
    assert_eq!(refused(503, ""), (ErrorKind::Network, 3));

    let server = Server::start(|_, before| match before {
        0 => Reply::new(429).with("retry-after", 1),
        1 => Reply::new(500),
        _ => listing(&[]),
    });
    let start = Instant::now();
    hub(&server, cache.path()).snapshot(&repo(), "main", |_| true).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "the server asked for a second");
}

#[test]
fn a_hostile_server_gets_nowhere() {
    let run = |reply: Reply| {
        let server = Server::start(move |_, _| reply.clone());
        let cache = tempfile::tempdir().unwrap();
        let error = hub(&server, cache.path()).snapshot(&repo(), "main", |_| true).unwrap_err();
        assert_eq!(tree(cache.path()), [""; 0]);
        error.kind()
    };
    for name in ["../../x", "/etc/cron.d/x", "a\\\\..\\\\b", "C:/x", "a/../../b", "con", ""] {
        assert_eq!(run(listing(&[name])), ErrorKind::Outside, "{name}");
    }
    assert_eq!(run(Reply::ok("{\"sha\":\"../x\",\"siblings\":[]}")), ErrorKind::Malformed);
    assert_eq!(run(Reply::ok("[".repeat(100_000))), ErrorKind::Limit);
    assert_eq!(run(Reply::ok(vec![b' '; (64 << 20) + 1])), ErrorKind::Limit);
    // Compressed though nobody asked for it: not inflated, so no bomb.
    let gzip = Reply::ok([0x1f, 0x8b, 8, 0, 0, 0, 0, 0]).with("content-encoding", "gzip");
    assert_eq!(run(gzip), ErrorKind::Malformed);
    assert_eq!(run(Reply::new(302).with("location", "file:///etc/passwd")), ErrorKind::Network);
    assert_eq!(run(Reply::new(302).with("location", "/again")), ErrorKind::Network);
    let elsewhere = Reply::new(302).with("location", "http://127.0.0.2:9/");
    assert_eq!(run(elsewhere), ErrorKind::Network);

    let file = |reply: Reply| {
        let server = Server::start(move |_, _| reply.clone());
        let cache = tempfile::tempdir().unwrap();
        let error = hub(&server, cache.path()).file(&repo(), "main", "x").unwrap_err();
        assert_eq!(tree(cache.path()), [""; 0]);
        error.kind()
    };
    let base = Reply::ok("x").with("x-repo-commit", COMMIT);
    assert_eq!(file(base.clone().with("etag", "\"../../x\"")), ErrorKind::Network);
    assert_eq!(file(base), ErrorKind::Network);
    let no_commit = Reply::ok("x").with("etag", "abc").with("x-repo-commit", "../x");
    assert_eq!(file(no_commit), ErrorKind::Network);
}

#[test]
fn a_silent_server_is_given_up() {
    let server =
        Server::start(|_, _| Reply { stall: Some(Duration::from_secs(20)), ..Reply::new(200) });
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(&server, cache.path());
    options.timeout = Duration::from_millis(300);
    options.retries = 0;
    let start = Instant::now();
    let error = Hub::new(options).unwrap().snapshot(&repo(), "main", |_| true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn two_that_download_the_same_file_take_turns() {
    let body = data(200_000);
    let (sent, hash) = (body.clone(), sha256(&body));
    let server = Server::start(move |r, _| {
        let stall = (r.method == "GET").then_some(Duration::from_millis(200));
        Reply { stall, ..ranged(r, &sent, &hash) }
    });
    let cache = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let path = hub(&server, cache.path()).file(&repo(), "main", "w.bin").unwrap();
                assert_eq!(fs::read(path).unwrap(), body);
            });
        }
    });
    assert_eq!(server.requests("GET", "").len(), 1);
}

#[test]
fn off_line_the_cache_is_enough() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|r, _| match r.path.contains("/api/") {
        true => listing(&["config.json"]),
        false => direct(b"{}", SMALL),
    });
    let mut offline = options(&server, cache.path());
    offline.offline = true;
    let offline = Hub::new(offline).unwrap();
    let missing = offline.snapshot(&repo(), "main", |_| true).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Offline);
    assert_eq!(server.requests("GET", "").len(), 0);

    let fetched = hub(&server, cache.path()).snapshot(&repo(), "main", |_| true).unwrap();
    assert_eq!(offline.snapshot(&repo(), "main", |_| true).unwrap(), fetched);
    assert_eq!(offline.file(&repo(), "main", "config.json").unwrap(), fetched.join("config.json"));
    assert_eq!(offline.file(&repo(), COMMIT, "absent").unwrap_err().kind(), ErrorKind::Offline);

    // A server that cannot be reached: the cached copy serves; a refusal is still a refusal.
    let mut gone = options(&server, cache.path());
    gone.endpoint = "http://127.0.0.1:9".to_owned();
    gone.retries = 0;
    assert_eq!(Hub::new(gone).unwrap().snapshot(&repo(), "main", |_| true).unwrap(), fetched);
    let refusing = Server::start(|_, _| Reply::new(403));
    let refused = hub(&refusing, cache.path()).snapshot(&repo(), "main", |_| true);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn a_moved_repository_is_followed_within_the_hub() {
    let server = Server::start(|r, _| match r.path.as_str() {
        "/org/tiny/resolve/main/config.json" => {
            Reply::new(307).with("location", "/org/new/resolve/main/config.json")
        }
        "/org/new/resolve/main/config.json" => direct(b"{}", SMALL),
        _ => Reply::new(404),
    });
    let cache = tempfile::tempdir().unwrap();
    let path = hub(&server, cache.path()).file(&repo(), "main", "config.json").unwrap();
    assert_eq!(fs::read(path).unwrap(), b"{}");
}
