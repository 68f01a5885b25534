use std::process::ExitCode;

use clap::Parser;
use lockstep::cli::{self, Cli};

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            cli::out::say(format_args!("error: {error:#}"));
            cli::exit_code(&error)
        }
    }
}
