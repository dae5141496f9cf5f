//! What other schedulers keep in their tables, in the words of schedule().

use super::client::{Rows, Session};
use crate::error::Result;

/// `$` is pg_cron's last day of the month. In a connection string a value that is no plain word is quoted.
const PG_CRON: &str = r"
    select j.jobid, coalesce(j.jobname, 'cron-' || j.jobid) as name,
           case when j.schedule ~ '^\d+ seconds?$' then 'every ' || j.schedule
                else replace(j.schedule, '$', 'L') end as schedule,
           coalesce(current_setting('cron.timezone', true), 'GMT') as timezone,
           (select string_agg(p.key || '=' || case when p.value ~ '^[\w./-]+$' then p.value
                       else '''' || replace(replace(p.value, '\', '\\'), '''', '\''') || '''' end, ' ' order by p.n)
              from (values (1, 'host', coalesce(nullif(j.nodename, ''), 'localhost')), (2, 'port', j.nodeport::text),
                           (3, 'dbname', j.database), (4, 'user', j.username::text)) p (n, key, value)
             where p.value is not null) as connection,
           j.command,
           case when not j.active then 'it is not active'
                when j.schedule = '@reboot' then '@reboot is no time' end as left_out
      from cron.job j
     order by j.jobid";

impl Session {
    /// Whether pg_cron has its table in this database.
    pub async fn has_pg_cron(&self) -> Result<bool> {
        let rows = self.rows("select where to_regclass('cron.job') is not null", &[]).await?;
        Ok(!rows.objects.is_empty())
    }

    /// The jobs of pg_cron that this login may see.
    pub async fn pg_cron_jobs(&self) -> Result<Rows> {
        self.rows(PG_CRON, &[]).await
    }
}
