//! `posthaste man`: manual pages, made from what `--help` says.

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, Failure, output};

const EXAMPLE: &str = "Example:
  posthaste man | man -l -
  posthaste man /usr/local/share/man/man1    # a page for each command";

/// Write the manual pages
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The folder for a page of each command, made where it is not there; without one, the main page is printed
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Writes them.
pub(super) fn run(args: Args) -> Result<(), Failure> {
    let Some(folder) = args.folder else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
        rendered.map_err(|error| Failure::failed(error.to_string()))?;
        return output::print(String::from_utf8_lossy(&page).trim_end());
    };
    std::fs::create_dir_all(&folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &folder))
        .map_err(|error| Failure::failed(format!("{} cannot be written: {error}", folder.display())))
}
