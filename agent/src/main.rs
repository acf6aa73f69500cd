//! The `ringfence` command.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use agent::cli::client::ClientError;
use agent::cli::output::{Exit, Style};
use agent::cli::{check, doctor, explain, lookup, run, status, uninstall, watch};
use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

const ABOUT: &str = "Keeps the data of chosen workloads inside the jurisdictions their owner allows";

#[derive(Parser)]
#[command(name = "ringfence", about = ABOUT, version, long_version = long_version(), subcommand_required = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(Box<run::RunArgs>),
    Watch(watch::args::WatchArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Check(check::CheckArgs),
    Explain(Box<explain::ExplainArgs>),
    Lookup(lookup::LookupArgs),
    Uninstall(uninstall::UninstallArgs),
    /// Print a completion script for a shell
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

fn long_version() -> &'static str {
    concat!(
        env!("CARGO_PKG_VERSION"),
        " (",
        env!("RINGFENCE_REVISION"),
        ")\n",
        "Built-in country data: IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0"
    )
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logs(matches!(cli.verb, Verb::Run(_)));
    match dispatch(cli.verb) {
        Ok(code) => code,
        Err(error) => {
            if broken_pipe(&error) {
                return Exit::Fine.into();
            }
            eprintln!("ringfence: {}", words(&error));
            error.downcast_ref::<ClientError>().map_or(Exit::Failed, ClientError::exit).into()
        }
    }
}

fn dispatch(verb: Verb) -> anyhow::Result<ExitCode> {
    let style = Style::for_stdout();
    let mut out = BufWriter::new(io::stdout().lock());
    let code = match verb {
        Verb::Run(args) => {
            run::run(*args)?;
            Exit::Fine.into()
        }
        Verb::Watch(args) => client()?.block_on(watch::watch(&args, style, &mut out))?.into(),
        Verb::Status(args) => client()?.block_on(status::status(&args, style, &mut out))?.into(),
        Verb::Doctor(args) => doctor::run(&args, style, &mut out)?.into(),
        Verb::Check(args) => check::run(&args, &mut out)?,
        Verb::Explain(args) => explain::run(&args, &mut out, &mut io::stderr())?,
        Verb::Lookup(args) => lookup::lookup(&args, style, io::stdin(), &mut out, &mut io::stderr())?.into(),
        Verb::Uninstall(args) => uninstall::uninstall(&args, &mut out)?.into(),
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "ringfence", &mut out);
            Exit::Fine.into()
        }
    };
    out.flush()?;
    Ok(code)
}

/// The error and its causes, but for causes that the text before them has said already.
fn words(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn client() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|e| e.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        || error.downcast_ref::<ClientError>().is_some_and(ClientError::is_quiet)
}

/// The agent logs what it does; the other verbs only what goes wrong.
fn logs(agent: bool) {
    let default = if agent { "info" } else { "error" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}
