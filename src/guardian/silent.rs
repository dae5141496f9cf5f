//! Keepers that are alive and do not answer: stopped, hung, or waiting for a disk; and places of older keepers that
//! cannot be used. The host goes on without them, and what they have stays theirs: it may run.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    error::{Error, Result},
    keeper::{Found, KeeperClient, StateDirectory},
};

/// How long a keeper may take to say something that is awaited; it needs milliseconds. Shorter than a lease: in it the
/// host must be heard of again.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at those that did not answer.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A place that cannot be used is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Silent {
    pub(super) place: StateDirectory,
    /// What it has, as its directory tells: run and claim.
    pub(super) claims: Vec<(i64, i64)>,
    /// Why its place cannot be used, if it is that.
    pub(super) fault: Option<String>,
}

impl Silent {
    pub(super) fn in_place(place: StateDirectory) -> Result<Self> {
        let claims = place.claims()?;
        Ok(Self { place, claims, fault: None })
    }

    /// What can be read of it is handed over all the same.
    pub(super) fn broken(place: StateDirectory, err: &Error) -> Self {
        let claims = place.claims().unwrap_or_default();
        Self { place, claims, fault: Some(err.in_a_line()) }
    }

    pub(super) fn has(&self, run_id: i64, claim_no: i64) -> bool {
        self.claims.contains(&(run_id, claim_no))
    }
}

/// For `fleet`; none when all keepers answer.
pub(super) fn problem(silent: &[Silent]) -> Option<String> {
    let first = silent.first()?;
    let runs: usize = silent.iter().map(|it| it.claims.len()).sum();
    let further = if silent.len() > 1 { format!(" and {} more", silent.len() - 1) } else { String::new() };
    let what = match &first.fault {
        None => "does not answer".to_owned(),
        Some(fault) => format!("cannot be had ({fault})"),
    };
    Some(format!(
        "the keeper in {:?}{further} {what}: nobody ends or reports its runs ({runs})",
        first.place.path()
    ))
}

/// Returns when one of them answers or is gone, or a place is to be tried again; never when there are none.
pub(super) async fn change(silent: Vec<Silent>, epoch: u64) {
    if silent.is_empty() {
        return std::future::pending().await;
    }
    let (broken, silent): (Vec<_>, Vec<_>) = silent.into_iter().partition(|one| one.fault.is_some());
    let begun = Instant::now();
    loop {
        sleep(LOOK_EVERY).await;
        if !broken.is_empty() && begun.elapsed() > TRY_AGAIN {
            return;
        }
        for one in &silent {
            let found = KeeperClient::find(&one.place, epoch, PATIENCE).await;
            if matches!(found, Ok(Found::Answers(_) | Found::Nobody)) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_learns_which_keeper_is_silent_and_what_it_has() {
        assert_eq!(problem(&[]), None);
        let one = |place: &str, claims: &[(i64, i64)]| Silent {
            place: StateDirectory::at(place).unwrap(),
            claims: claims.to_vec(),
            fault: None,
        };
        let said = problem(&[one("/s", &[(1, 10), (2, 20)]), one("/s/keeper.1", &[(3, 30)])]).unwrap();
        assert_eq!(
            said,
            "the keeper in \"/s\" and 1 more does not answer: nobody ends or reports its runs (3)"
        );
        let broken = Silent { fault: Some("permission denied".to_owned()), ..one("/s/keeper.1", &[]) };
        let said = problem(&[broken]).unwrap();
        assert!(
            said.starts_with("the keeper in \"/s/keeper.1\" cannot be had (permission denied): "),
            "{said}"
        );
    }
}
