//! What a filter names: nothing of a host or pool that does not exist is a typing error.

use crate::{
    db::client::{Rows, Session},
    error::{Error, ErrorKind, Result},
};

/// An object that a filter names.
pub(super) enum Filter<'a> {
    Pool(Option<&'a str>),
    Host(Option<&'a str>),
}

/// Refuses the first filter, of an answer without rows, that names what does not exist.
pub(super) async fn check(rows: &Rows, filters: &[Filter<'_>], session: &Session) -> Result<()> {
    if !rows.objects.is_empty() {
        return Ok(());
    }
    for filter in filters {
        let (kind, name, names) = match filter {
            Filter::Pool(Some(name)) => ("pool", name, session.pool_names().await?),
            Filter::Host(Some(name)) => ("host", name, session.host_names().await?),
            _ => continue,
        };
        if !names.iter().any(|known| known == name) {
            let hint = match names.is_empty() {
                true => format!("there is no {kind}"),
                false => format!("there is {}", names.join(", ")),
            };
            return Err(Error::new(ErrorKind::Failed, format!("{kind} \"{name}\" does not exist")).hint(hint));
        }
    }
    Ok(())
}
