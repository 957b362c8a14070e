//! Global options: what the command line and the environment say, checked and with defaults filled in.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::environment::Environment;
use crate::failure::{Exit, Failure};
use crate::format::{Format, Style};
use crate::{go, print};

/// Flags that every command takes. All are optional here: an unset one may be set by the environment.
#[derive(Args, Debug, Default)]
pub(crate) struct GlobalArgs {
    /// Servers to talk to, separated by commas; the first that can answer is used
    /// [default: 127.0.0.1:2379]
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        value_name = "HOST:PORT",
        help_heading = "Connection"
    )]
    endpoints: Option<Vec<String>>,
    /// How long to wait for a connection [default: 2s]
    #[arg(long, global = true, value_parser = go::parse_duration, value_name = "TIME", help_heading = "Connection")]
    dial_timeout: Option<Duration>,
    /// How long to wait for an answer once connected (txn and watch wait for ever) [default: 5s]
    #[arg(long, global = true, value_parser = go::parse_duration, value_name = "TIME", help_heading = "Connection")]
    command_timeout: Option<Duration>,
    /// Pause after which a silent connection is probed [default: 2s]
    #[arg(long, global = true, value_parser = go::parse_duration, value_name = "TIME", help_heading = "Connection")]
    keepalive_time: Option<Duration>,
    /// How long a probe may take before the connection counts as lost [default: 6s]
    #[arg(long, global = true, value_parser = go::parse_duration, value_name = "TIME", help_heading = "Connection")]
    keepalive_timeout: Option<Duration>,
    /// Largest request in bytes [default: 2 MiB]
    #[arg(long, global = true, value_parser = parse_limit, value_name = "BYTES", help_heading = "Connection")]
    max_request_bytes: Option<usize>,
    /// Largest answer in bytes [default: 2 GiB]
    #[arg(long, global = true, value_parser = parse_limit, value_name = "BYTES", help_heading = "Connection")]
    max_recv_bytes: Option<usize>,

    /// simple, fields, json, protobuf or table [default: simple]
    #[arg(short, long, global = true, value_name = "FORMAT", help_heading = "Output")]
    write_out: Option<String>,
    /// Print keys and values (simple) or ids (fields) in hex
    #[arg(long, global = true, help_heading = "Output")]
    hex: bool,
    /// Tell on stderr which options are in effect
    #[arg(long, global = true, help_heading = "Output")]
    debug: bool,

    /// Certificates (PEM) that the server's certificate must lead to
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    cacert: Option<String>,
    /// The client's own certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    cert: Option<String>,
    /// Private key (PEM) of the client's certificate
    #[arg(long, global = true, value_name = "FILE", help_heading = "TLS")]
    key: Option<String>,
    /// No TLS where the endpoint does not say https:// [default: true]
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = go::parse_bool, value_name = "BOOL", help_heading = "TLS")]
    insecure_transport: Option<bool>,
    /// Do not check the server's certificate (for tests only)
    #[arg(long, global = true, help_heading = "TLS")]
    insecure_skip_tls_verify: bool,

    /// User name, or name:password; without a password it is asked for
    #[arg(long, global = true, value_name = "NAME[:PASSWORD]", help_heading = "User")]
    user: Option<String>,
    /// Password of --user
    #[arg(long, global = true, help_heading = "User")]
    password: Option<String>,
    /// Token to send instead of logging in
    #[arg(long, global = true, value_name = "TOKEN", help_heading = "User")]
    auth_jwt_token: Option<String>,

    // Accepted so that the answer is a clear one.
    #[arg(short = 'd', long, global = true, hide = true)]
    discovery_srv: Option<String>,
    #[arg(long, global = true, hide = true)]
    discovery_srv_name: Option<String>,
    #[arg(long, global = true, hide = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = go::parse_bool)]
    insecure_discovery: Option<bool>,
}

/// 0 asks for the default, as in etcdctl.
fn parse_limit(text: &str) -> Result<usize, String> {
    usize::try_from(go::parse_int(text, 0)?).map_err(|_| "a limit cannot be negative".to_owned())
}

/// Every global option with its value.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) endpoints: Vec<String>,
    pub(crate) style: Style,
    pub(crate) debug: bool,
    pub(crate) dial_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) keepalive_time: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) request_bytes_max: usize,
    pub(crate) answer_bytes_max: usize,
    pub(crate) tls: Tls,
    pub(crate) login: Option<Login>,
    pub(crate) token: Option<String>,
}

/// How TLS is done where it is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    pub(crate) cacert: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) skip_verify: bool,
    /// Endpoints without a scheme are spoken to over TLS.
    pub(crate) by_default: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// What `--dial-timeout 0` means, as in etcdctl.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
const REQUEST_BYTES_MAX: usize = 2 << 20;
const ANSWER_BYTES_MAX: usize = i32::MAX as usize;

impl GlobalArgs {
    /// Combines flags, environment and defaults. Asks for a password if there must be one.
    pub(crate) fn resolve(&self) -> Result<Options, Failure> {
        self.resolve_in(&mut Environment::of_process())
    }

    fn resolve_in(&self, env: &mut Environment) -> Result<Options, Failure> {
        let bool_of = |set: bool| set.then_some(true);
        let list = |text: &str| Ok(text.split(',').map(str::to_owned).collect::<Vec<_>>());
        let debug = env.option("debug", bool_of(self.debug), go::parse_bool)?.unwrap_or(false);
        self.refuse_discovery(env)?;
        let endpoints = env.option("endpoints", self.endpoints.clone(), list)?;
        let endpoints = endpoints.unwrap_or_else(|| vec!["127.0.0.1:2379".to_owned()]);
        let time = go::parse_duration;
        let limit = |given: Option<usize>, default| given.filter(|n| *n > 0).unwrap_or(default);
        let request_bytes = env.option("max-request-bytes", self.max_request_bytes, parse_limit)?;
        let answer_bytes = env.option("max-recv-bytes", self.max_recv_bytes, parse_limit)?;
        let seconds =
            |given: Option<Duration>, default| given.unwrap_or(Duration::from_secs(default));
        let dial_timeout = env.option("dial-timeout", self.dial_timeout, time)?;
        let command_timeout = env.option("command-timeout", self.command_timeout, time)?;
        let keepalive_time = env.option("keepalive-time", self.keepalive_time, time)?;
        let keepalive_timeout = env.option("keepalive-timeout", self.keepalive_timeout, time)?;
        let tls = self.tls(env)?;
        let login = self.login(env)?;
        let token = env.option("auth-jwt-token", self.auth_jwt_token.clone(), text)?;
        let format = env.option("write-out", self.write_out.clone(), text)?;
        let format = format.map_or(Ok(Format::Simple), |name| Format::parse(&name))?;
        let hex = env.option("hex", bool_of(self.hex), go::parse_bool)?.unwrap_or(false);
        for variable in env.unknown() {
            print::note(&format!("kvctl: warning: {variable} is set, but there is no such option"));
        }
        let options = Options {
            endpoints: endpoints
                .iter()
                .map(|e| e.trim().to_owned())
                .filter(|e| !e.is_empty())
                .collect(),
            style: Style { format, hex, value_only: false },
            debug,
            dial_timeout: match seconds(dial_timeout, 2) {
                Duration::ZERO => FOR_EVER,
                timeout => timeout,
            },
            command_timeout: seconds(command_timeout, 5),
            keepalive_time: seconds(keepalive_time, 2),
            keepalive_timeout: seconds(keepalive_timeout, 6),
            request_bytes_max: limit(request_bytes, REQUEST_BYTES_MAX),
            answer_bytes_max: limit(answer_bytes, ANSWER_BYTES_MAX),
            tls,
            login,
            token,
        };
        if debug {
            options.tell();
        }
        Ok(options)
    }

    fn refuse_discovery(&self, env: &mut Environment) -> Result<(), Failure> {
        let domain = env.option("discovery-srv", self.discovery_srv.clone(), text)?;
        env.option("discovery-srv-name", self.discovery_srv_name.clone(), text)?;
        env.option("insecure-discovery", self.insecure_discovery, go::parse_bool)?;
        match domain {
            Some(domain) if !domain.is_empty() => Err(Failure::new(
                Exit::Error,
                format!(
                    "cannot look up the members of {domain}: --discovery-srv is not supported yet; \
                     list them with --endpoints"
                ),
            )),
            _ => Ok(()),
        }
    }

    fn tls(&self, env: &mut Environment) -> Result<Tls, Failure> {
        let mut file =
            |flag: &str, given: &Option<String>| match env.option(flag, given.clone(), text)? {
                Some(path) if path.is_empty() => Err(Failure::bad_arguments(format!(
                    "empty string is passed to --{flag} option; name a PEM file or drop the flag"
                ))),
                path => Ok(path.map(PathBuf::from)),
            };
        let cacert = file("cacert", &self.cacert)?;
        let cert = file("cert", &self.cert)?;
        let key = file("key", &self.key)?;
        if cert.is_some() != key.is_some() {
            return Err(Failure::bad_arguments(
                "--cert and --key belong together; pass both or none",
            ));
        }
        let skip = self.insecure_skip_tls_verify.then_some(true);
        let skip = env.option("insecure-skip-tls-verify", skip, go::parse_bool)?.unwrap_or(false);
        let plain = env.option("insecure-transport", self.insecure_transport, go::parse_bool)?;
        let by_default = cacert.is_some() || cert.is_some() || skip || plain == Some(false);
        Ok(Tls { cacert, cert, key, skip_verify: skip, by_default })
    }

    fn login(&self, env: &mut Environment) -> Result<Option<Login>, Failure> {
        let user = env.option("user", self.user.clone(), text)?.filter(|user| !user.is_empty());
        let password = env.option("password", self.password.clone(), text)?;
        let Some(user) = user else { return Ok(None) };
        if let Some(password) = password.filter(|password| !password.is_empty()) {
            return Ok(Some(Login { name: user, password }));
        }
        if let Some((name, password)) = user.split_once(':') {
            return Ok(Some(Login { name: name.to_owned(), password: password.to_owned() }));
        }
        let password = crate::password::ask("Password: ")?;
        Ok(Some(Login { name: user, password }))
    }
}

fn text(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

impl Options {
    /// The same for one endpoint only.
    pub(crate) fn at(&self, endpoint: &str) -> Self {
        Self { endpoints: vec![endpoint.to_owned()], ..self.clone() }
    }

    /// `--debug`: one line an option, passwords and tokens left out.
    fn tell(&self) {
        let time = |duration| go::format_duration(duration);
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map_or(String::new(), |p| p.display().to_string())
        };
        let lines = [
            ("ENDPOINTS", self.endpoints.join(",")),
            ("WRITE_OUT", format!("{:?}", self.style.format).to_lowercase()),
            ("HEX", self.style.hex.to_string()),
            ("DIAL_TIMEOUT", time(self.dial_timeout)),
            ("COMMAND_TIMEOUT", time(self.command_timeout)),
            ("KEEPALIVE_TIME", time(self.keepalive_time)),
            ("KEEPALIVE_TIMEOUT", time(self.keepalive_timeout)),
            ("MAX_REQUEST_BYTES", self.request_bytes_max.to_string()),
            ("MAX_RECV_BYTES", self.answer_bytes_max.to_string()),
            ("CACERT", path(&self.tls.cacert)),
            ("CERT", path(&self.tls.cert)),
            ("KEY", path(&self.tls.key)),
            ("INSECURE_SKIP_TLS_VERIFY", self.tls.skip_verify.to_string()),
            ("INSECURE_TRANSPORT", (!self.tls.by_default).to_string()),
            ("USER", self.login.as_ref().map_or(String::new(), |login| login.name.clone())),
        ];
        for (name, value) in lines {
            print::note(&format!("KVCTL_{name}={value}"));
        }
    }
}
