//! A client of the Hugging Face hub that shares its cache with Python.
//!
//! Files land where `huggingface_hub` puts them (`models--ORG--NAME/{blobs,snapshots,refs}` under
//! `HF_HUB_CACHE`), so a model that either has downloaded serves both. The same environment
//! variables apply:
//!
//! | variable | meaning |
//! |---|---|
//! | `HF_HOME` | everything's folder; by default `$XDG_CACHE_HOME/huggingface` or `~/.cache/huggingface` |
//! | `HF_HUB_CACHE` | the cache; by default `$HF_HOME/hub` |
//! | `HF_TOKEN`, `HF_TOKEN_PATH` | the token, or the file that holds it (by default `$HF_HOME/token`) |
//! | `HF_ENDPOINT` | the server, by default `https://huggingface.co` |
//! | `HF_HUB_OFFLINE` | `1`: use what the cache holds, never the network |
//! | `HF_HUB_DOWNLOAD_TIMEOUT` | seconds of silence after which a connection is given up; 10 |
//! | `HF_HUB_DISABLE_PROGRESS_BARS` | see [`Hub::wants_progress_bars`] |
//! | `HTTPS_PROXY`, `NO_PROXY` | the proxy |
//!
//! What the server says is checked like a file that a stranger wrote: names and hashes before they
//! become paths, sizes against what was announced, large files against their SHA-256. The token is
//! sent to the endpoint alone and dropped at a redirect to another host. A file appears under its
//! final name only when it is complete; an interrupted download is resumed; processes that download
//! the same file take turns.

mod cache;
mod download;
mod http;
mod name;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::cache::Cache;
use self::http::Http;
pub use self::name::{RepoId, RepoKind};
use crate::error::{Error, ErrorKind, Result};
use crate::folder::{ModelFolder, is_tokenizer_file};

/// Watches downloads; a command line draws bars with it. Calls come from several threads.
/// [`Hub::with_progress`] has an example.
pub trait Progress: Send + Sync {
    /// A file begins: its size in bytes, where known, and how many of them an earlier attempt has left.
    fn begin(&self, file: &str, total: Option<u64>, present: u64);
    /// `bytes` more of it have arrived since the last call.
    fn advance(&self, file: &str, bytes: u64);
    /// It is complete.
    fn end(&self, file: &str);
}

/// Nobody watches.
struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>, _: u64) {}
    fn advance(&self, _: &str, _: u64) {}
    fn end(&self, _: &str) {}
}

/// How to reach the hub, and where to keep what comes.
#[derive(Clone)]
#[non_exhaustive]
pub struct HubOptions {
    /// The cache folder.
    pub cache: PathBuf,
    /// The server, without a slash at the end.
    pub endpoint: String,
    /// The access token.
    pub token: Option<String>,
    /// Never use the network.
    pub offline: bool,
    /// How long a connection may be silent.
    pub timeout: Duration,
    /// How often a failed request is tried again.
    pub retries: u32,
    /// The pause before the first new attempt; it doubles each time.
    pub retry_pause: Duration,
    /// Whether the user wants to see progress bars.
    pub progress_bars: bool,
}

impl HubOptions {
    /// The defaults, with a cache folder of one's own and without a token. The environment is not
    /// asked.
    ///
    /// ```
    /// # use lazul_io::hub::{Hub, HubOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let cache = folder.path();
    /// let mut options = HubOptions::new(cache);
    /// options.endpoint = "https://mirror.example".into();
    /// options.offline = true;
    /// assert_eq!((options.retries, options.timeout.as_secs()), (5, 10));
    /// assert_eq!(Hub::new(options)?.cache(), cache);
    /// # Ok(()) }
    /// ```
    pub fn new(cache: impl Into<PathBuf>) -> HubOptions {
        HubOptions {
            cache: cache.into(),
            endpoint: "https://huggingface.co".to_owned(),
            token: None,
            offline: false,
            timeout: Duration::from_secs(10),
            retries: 5,
            retry_pause: Duration::from_secs(1),
            progress_bars: true,
        }
    }

    /// Reads the environment variables that the [module](self) lists, and the file with the token.
    ///
    /// ```
    /// use lazul_io::hub::HubOptions;
    /// # fn main() -> lazul_io::Result<()> {
    /// let options = HubOptions::from_env()?;
    /// println!("models are kept in {}", options.cache.display());
    /// assert!(!options.endpoint.ends_with('/'));
    /// assert!(options.timeout.as_secs() >= 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if no variable says where the cache is.
    pub fn from_env() -> Result<HubOptions> {
        HubOptions::from_vars(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<HubOptions> {
        let is_on = |name: &str| {
            let value = var(name).unwrap_or_default().to_ascii_uppercase();
            matches!(value.as_str(), "1" | "ON" | "YES" | "TRUE")
        };
        let user = || var("HOME").or_else(|| var("USERPROFILE")).map(PathBuf::from);
        let expand = |path: String| match (path.strip_prefix("~/"), user()) {
            (Some(rest), Some(user)) => user.join(rest),
            _ => PathBuf::from(path),
        };
        let home = var("HF_HOME")
            .map(&expand)
            .or_else(|| var("XDG_CACHE_HOME").map(|cache| expand(cache).join("huggingface")))
            .or_else(|| user().map(|user| user.join(".cache/huggingface")));
        let home = home.ok_or_else(|| {
            Error::new(ErrorKind::Argument, "neither HF_HOME nor HOME says where the cache is")
        })?;
        let cache = var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE"));
        let token_file = var("HF_TOKEN_PATH").map_or_else(|| home.join("token"), &expand);
        let token = var("HF_TOKEN").or_else(|| std::fs::read_to_string(token_file).ok());
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        let mut options = HubOptions::new(cache.map_or_else(|| home.join("hub"), expand));
        if let Some(endpoint) = var("HF_ENDPOINT") {
            options.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        let seconds = var("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|text| text.trim().parse().ok());
        if let Some(seconds) = seconds {
            options.timeout = Duration::from_secs(seconds).max(Duration::from_secs(1));
        }
        options.token = token;
        options.offline = is_on("HF_HUB_OFFLINE");
        options.progress_bars = !is_on("HF_HUB_DISABLE_PROGRESS_BARS");
        Ok(options)
    }
}

/// A client of the hub.
///
/// ```no_run
/// use lazul_io::hub::{Hub, RepoId};
/// # fn main() -> lazul_io::Result<()> {
/// let hub = Hub::from_env()?;
/// let repo: RepoId = "mlx-community/Qwen3-0.6B-4bit".parse()?;
/// let folder = hub.model(&repo, "main")?;
/// println!("{:?} with {} tensors", folder.model_type(), folder.weights()?.arrays.len());
/// # Ok(()) }
/// ```
pub struct Hub {
    options: HubOptions,
    cache: Cache,
    http: Http,
    progress: Arc<dyn Progress>,
}

impl Hub {
    /// A client that is set up by the environment: see [`HubOptions::from_env`].
    ///
    /// ```
    /// use lazul_io::hub::{Hub, HubOptions};
    /// # fn main() -> lazul_io::Result<()> {
    /// let hub = Hub::from_env()?; // nothing is sent yet
    /// assert_eq!(hub.cache(), HubOptions::from_env()?.cache);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`HubOptions::from_env`] and [`Hub::new`].
    pub fn from_env() -> Result<Hub> {
        Hub::new(HubOptions::from_env()?)
    }

    /// A client with options of one's own. Nothing is sent and no folder made before something is
    /// asked for.
    ///
    /// ```
    /// # use lazul_io::hub::{Hub, HubOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let cache = folder.path();
    /// let mut options = HubOptions::new(cache);
    /// options.endpoint = "ftp://mirror.example".into();
    /// let error = Hub::new(options).err().unwrap();
    /// assert_eq!(error.kind(), lazul_io::ErrorKind::Argument);
    /// assert!(Hub::new(HubOptions::new(cache)).is_ok());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if the endpoint is not an http or https address.
    pub fn new(options: HubOptions) -> Result<Hub> {
        let http = Http::new(&options)?;
        let cache = Cache::new(&options.cache);
        Ok(Hub { options, cache, http, progress: Arc::new(Silent) })
    }

    /// Lets somebody watch the downloads. Files that the cache holds are not announced.
    ///
    /// ```
    /// use lazul_io::hub::{Hub, HubOptions, Progress};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// struct Lines;
    /// impl Progress for Lines {
    ///     fn begin(&self, file: &str, total: Option<u64>, _present: u64) {
    ///         println!("{file}: {total:?} bytes");
    ///     }
    ///     fn advance(&self, _file: &str, _bytes: u64) {}
    ///     fn end(&self, file: &str) {
    ///         println!("{file}: done");
    ///     }
    /// }
    /// let hub = Hub::new(HubOptions::new(folder.path()))?.with_progress(std::sync::Arc::new(Lines));
    /// assert!(hub.wants_progress_bars());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn with_progress(mut self, progress: Arc<dyn Progress>) -> Hub {
        self.progress = progress;
        self
    }

    /// Whether the user wants progress bars (`HF_HUB_DISABLE_PROGRESS_BARS` is not set).
    ///
    /// ```
    /// # use lazul_io::hub::{Hub, HubOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let cache = folder.path();
    /// let mut options = HubOptions::new(cache);
    /// options.progress_bars = false;
    /// assert!(!Hub::new(options)?.wants_progress_bars());
    /// # Ok(()) }
    /// ```
    pub fn wants_progress_bars(&self) -> bool {
        self.options.progress_bars
    }

    /// The cache folder. It need not exist yet.
    ///
    /// ```
    /// # use lazul_io::hub::{Hub, HubOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let cache = folder.path();
    /// assert_eq!(Hub::new(HubOptions::new(cache))?.cache(), cache);
    /// # Ok(()) }
    /// ```
    pub fn cache(&self) -> &Path {
        &self.options.cache
    }

    /// Downloads what a language model needs (configuration, tokenizer, weights; no code) and opens
    /// it. `revision` is a branch, a tag, `refs/pr/N` or a commit.
    ///
    /// ```
    /// # use lazul_io::hub::{Hub, HubOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let cache = folder.path();
    /// # let commit = "0123456789abcdef0123456789abcdef01234567";
    /// # let repo = cache.join("models--org--tiny");
    /// # std::fs::create_dir_all(repo.join("snapshots").join(commit))?;
    /// # std::fs::create_dir_all(repo.join("refs"))?;
    /// # std::fs::write(repo.join("refs/main"), commit)?;
    /// # let config = repo.join("snapshots").join(commit).join("config.json");
    /// # std::fs::write(config, r#"{"model_type": "llama"}"#)?;
    /// # let mut options = HubOptions::new(cache);
    /// # options.offline = true;
    /// let hub = Hub::new(options)?; // offline: what the cache holds is used
    /// let folder = hub.model(&"org/tiny".parse()?, "main")?;
    /// assert_eq!(folder.model_type(), Some("llama"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`Hub::snapshot`] and [`ModelFolder::open_dir`].
    pub fn model(&self, repo: &RepoId, revision: &str) -> Result<ModelFolder> {
        ModelFolder::open_dir(self.snapshot(repo, revision, is_model_file)?)
    }

    /// Downloads the files of a revision that `wanted` picks, and returns the snapshot's folder.
    /// Files that the cache holds are not downloaded again. If the server cannot be reached, an
    /// older state of the revision in the cache is used, with a warning.
    ///
    /// ```
    /// # use lazul_io::hub::{Hub, HubOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let cache = folder.path();
    /// # let commit = "0123456789abcdef0123456789abcdef01234567";
    /// # let repo = cache.join("models--org--tiny");
    /// # std::fs::create_dir_all(repo.join("snapshots").join(commit))?;
    /// # std::fs::create_dir_all(repo.join("refs"))?;
    /// # std::fs::write(repo.join("refs/main"), commit)?;
    /// # let config = repo.join("snapshots").join(commit).join("config.json");
    /// # std::fs::write(config, r#"{"model_type": "llama"}"#)?;
    /// # let mut options = HubOptions::new(cache);
    /// # options.offline = true;
    /// let hub = Hub::new(options)?; // offline: what the cache holds is used
    /// let snapshot = hub.snapshot(&"org/tiny".parse()?, "main", |file| file.ends_with(".json"))?;
    /// assert!(snapshot.ends_with(commit) && snapshot.join("config.json").is_file());
    /// let other = hub.snapshot(&"org/tiny".parse()?, "v2", |_| true).unwrap_err();
    /// assert_eq!(other.kind(), lazul_io::ErrorKind::Offline);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if `revision` cannot be one; [`ErrorKind::NotFound`] if the hub has
    /// no such repository or revision; [`ErrorKind::Denied`] if it wants another token;
    /// [`ErrorKind::Network`] if it cannot be reached; [`ErrorKind::Offline`] if it may not be and
    /// the cache lacks the revision; [`ErrorKind::Corrupt`] or [`ErrorKind::Changed`] if what
    /// arrives is not what was announced; [`ErrorKind::Outside`] if a listed file has a name that
    /// is not plain; those of the file system.
    pub fn snapshot(
        &self,
        repo: &RepoId,
        revision: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<PathBuf> {
        name::check_revision(revision)?;
        let repo_cache = self.cache.repo(repo);
        if self.options.offline {
            return repo_cache.snapshot(revision);
        }
        let listing = match self.listing(repo, revision) {
            Err(e) if e.kind() == ErrorKind::Network => {
                return repo_cache.snapshot(revision).map_err(|_| e.clone()).inspect(|path| {
                    tracing::warn!(%e, path = %path.display(), "using the cached copy");
                });
            }
            listing => listing?,
        };
        let files: Vec<&String> = listing.files.iter().filter(|file| wanted(file)).collect();
        self.download_all(repo, &repo_cache, &listing.commit, &files)?;
        let snapshot = repo_cache.create_snapshot(&listing.commit)?;
        repo_cache.write_ref(revision, &listing.commit)?;
        Ok(snapshot)
    }

    /// Downloads one file of a revision and returns its path. If `revision` is a commit and the
    /// cache holds the file, the server is not asked.
    ///
    /// ```
    /// # use lazul_io::hub::{Hub, HubOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let cache = folder.path();
    /// # let commit = "0123456789abcdef0123456789abcdef01234567";
    /// # let repo = cache.join("models--org--tiny");
    /// # std::fs::create_dir_all(repo.join("snapshots").join(commit))?;
    /// # std::fs::create_dir_all(repo.join("refs"))?;
    /// # std::fs::write(repo.join("refs/main"), commit)?;
    /// # let config = repo.join("snapshots").join(commit).join("config.json");
    /// # std::fs::write(config, r#"{"model_type": "llama"}"#)?;
    /// # let mut options = HubOptions::new(cache);
    /// # options.offline = true;
    /// let hub = Hub::new(options)?; // offline: what the cache holds is used
    /// let path = hub.file(&"org/tiny".parse()?, "main", "config.json")?;
    /// assert_eq!(std::fs::read_to_string(path)?, r#"{"model_type": "llama"}"#);
    /// let absent = hub.file(&"org/tiny".parse()?, "main", "tokenizer.json").unwrap_err();
    /// assert_eq!(absent.kind(), lazul_io::ErrorKind::Offline);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Hub::snapshot`]; [`ErrorKind::NotFound`] also if the revision has no such file.
    pub fn file(&self, repo: &RepoId, revision: &str, file: &str) -> Result<PathBuf> {
        name::check_revision(revision)?;
        name::check_file(file)?;
        let repo_cache = self.cache.repo(repo);
        let cached = |revision: &str| {
            let path = repo_cache.snapshot(revision)?.join(file);
            let missing = || Error::new(ErrorKind::Offline, "the file is not in the cache");
            path.is_file().then_some(path).ok_or_else(|| missing().in_file(file))
        };
        if self.options.offline || name::is_commit(revision) {
            match cached(revision) {
                Err(e) if self.options.offline => return Err(e),
                Err(_) => {}
                found => return found,
            }
        }
        match self.download(repo, &repo_cache, revision, file) {
            Ok((path, commit)) => {
                repo_cache.write_ref(revision, &commit)?;
                Ok(path)
            }
            Err(e) if e.kind() == ErrorKind::Network => cached(revision).map_err(|_| e),
            Err(e) => Err(e),
        }
    }
}

/// What [`Hub::model`] downloads: the patterns of mlx-lm, without Python files.
fn is_model_file(name: &str) -> bool {
    if name.contains('/') {
        return false;
    }
    name.ends_with(".json")
        || (name.starts_with("model") && name.ends_with(".safetensors"))
        || (name.starts_with("weights")
            && (name.ends_with(".safetensors") || name.ends_with(".npz")))
        || name.ends_with(".txt")
        || is_tokenizer_file(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(vars: &[(&str, &str)]) -> HubOptions {
        let find = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
        HubOptions::from_vars(find).unwrap()
    }

    #[test]
    fn the_environment_means_what_it_means_to_python() {
        let plain = options(&[("HOME", "/home/u")]);
        assert_eq!(plain.cache, Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(plain.endpoint, "https://huggingface.co");
        assert!(!plain.offline && plain.progress_bars && plain.token.is_none());
        assert_eq!(options(&[("XDG_CACHE_HOME", "/c")]).cache, Path::new("/c/huggingface/hub"));
        assert_eq!(options(&[("HF_HOME", "~/h"), ("HOME", "/u")]).cache, Path::new("/u/h/hub"));
        let set = options(&[
            ("HF_HOME", "/h"),
            ("HF_HUB_CACHE", "/elsewhere"),
            ("HF_TOKEN", " secret\n"),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_HUB_OFFLINE", "yes"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "30"),
            ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ]);
        assert_eq!(set.cache, Path::new("/elsewhere"));
        assert_eq!(set.token.as_deref(), Some("secret"));
        assert_eq!(set.endpoint, "http://mirror");
        assert_eq!(set.timeout, Duration::from_secs(30));
        assert!(set.offline && !set.progress_bars);
        assert!(HubOptions::from_vars(|_| None).is_err());
    }

    #[test]
    fn code_is_not_downloaded() {
        assert!(
            ["config.json", "model-00001-of-00002.safetensors", "tokenizer.model"]
                .into_iter()
                .all(is_model_file)
        );
        assert!(
            !["modeling_x.py", "pytorch_model.bin", "original/consolidated.safetensors"]
                .into_iter()
                .any(is_model_file)
        );
    }
}
