//! `sisyphus keeper`: the parent of the jobs.

use std::path::PathBuf;

use clap::Args;

use crate::{
    error::{Error, ErrorKind, Result},
    keeper::{self, Options, Place, StateDirectory},
};

/// Run the parent of this host's jobs
///
/// The keeper executes what a guardian tells it over a socket in the state directory, and outlives the
/// guardian. A guardian starts one when none runs; as root, let systemd do it (sisyphus-keeper.service).
///
///   sisyphus keeper --state-dir /var/lib/sisyphus
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// Directory that guardian and keeper share [default: /var/lib/sisyphus for root, else
    /// $XDG_STATE_HOME/sisyphus]
    #[arg(long, value_name = "DIR", env = "SISYPHUS_STATE_DIR")]
    pub state_dir: Option<PathBuf>,

    /// Where control groups (version 2) are made, one for each run: auto, none, or a directory of that file
    /// system that is this keeper's own
    #[arg(long, value_name = "PLACE", default_value = "auto", env = "SISYPHUS_CGROUP")]
    pub cgroup: Place,

    /// What this host runs, as whom, for whom [default: /etc/sisyphus/policy.toml when it is there]; read again
    /// on SIGHUP
    #[arg(long, value_name = "FILE", env = "SISYPHUS_POLICY", hide_env_values = true)]
    pub policy: Option<PathBuf>,

    /// User of the guardian, for a keeper of root: besides root that one alone may tell it what to run
    #[arg(long, value_name = "USER", env = "SISYPHUS_GUARDIAN_USER")]
    pub guardian_user: Option<String>,

    /// How long a job may take to enter its directory and execute its program, where a file system hangs
    #[arg(long, value_name = "SECONDS", default_value_t = 60, hide = true)]
    pub start_timeout: u32,

    /// Go to the background once the socket listens, and end when there is nothing to do
    #[arg(long)]
    pub detach: bool,
}

/// Runs the keeper until it is told to stop or, detached, has nothing left to do.
pub fn run(args: KeeperArgs) -> Result<()> {
    let path = args.state_dir.map_or_else(StateDirectory::default_path, Ok)?;
    let directory = StateDirectory::open(path)?;
    // Detached, it leaves the directory that a relative path is meant in.
    let policy = args.policy.map(std::path::absolute).transpose();
    let policy = policy.map_err(|err| Error::new(ErrorKind::Config, "policy: no such path").source(err))?;
    let start_timeout = std::time::Duration::from_secs(args.start_timeout.into());
    let options = Options {
        detach: args.detach,
        cgroup: args.cgroup,
        policy,
        start_timeout,
        guardian_user: args.guardian_user,
    };
    keeper::run(&directory, &options)
}
