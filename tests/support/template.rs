//! The migrated template database, keyed by the migrations and code that this build carries.

use sha2::{Digest, Sha256};
use sisyphus::migrate;
use tokio_postgres::Client;

use super::{assertions::told, cluster, database};

/// The name of the template with this build's schema, made when it is not there yet.
pub(super) async fn migrated(admin: &Client) -> String {
    let name = format!("sisyphus_template_{}", fingerprint());
    let _turn = cluster::turn("test-template.lock");
    if exists(admin, &name).await {
        return name;
    }
    drop_old(admin).await;
    let building = format!("{name}_building");
    admin.batch_execute(&format!("drop database if exists {building} with (force)")).await.expect("drop");
    admin.batch_execute(&format!("create database {building} template template0")).await.expect("create");
    let mut client = database::connect(&cluster::server_url(&building)).await;
    if let Err(err) = migrate::migrate(&mut client).await {
        panic!("the schema cannot be installed:\n{}", told(&err));
    }
    client.close().await;
    // Renamed when complete: an install that was interrupted is never taken for a template.
    admin.batch_execute(&format!("alter database {building} rename to {name}")).await.expect("rename");
    name
}

fn fingerprint() -> String {
    let mut hash = Sha256::new();
    for step in migrate::steps() {
        hash.update(step.checksum.to_le_bytes());
    }
    hash.update(migrate::bundle_checksum());
    hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn exists(admin: &Client, name: &str) -> bool {
    admin
        .query_opt("select from pg_database where datname = $1", &[&name])
        .await
        .expect("databases")
        .is_some()
}

/// Templates of earlier builds.
async fn drop_old(admin: &Client) {
    let old = "select datname from pg_database where datname like 'sisyphus\\_template\\_%'";
    for row in admin.query(old, &[]).await.expect("databases") {
        // Another run may be copying it: then it stays.
        admin.batch_execute(&format!("drop database if exists {}", row.get::<_, &str>(0))).await.ok();
    }
}
