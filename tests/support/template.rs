//! The migrated template database, keyed by what stands in `sql/`.

use std::{fs, path::Path};

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use super::{cluster, database};

/// The name of the template that has the schema of the present `sql/`, made when it is not there yet.
pub(super) async fn migrated(admin: &Client) -> String {
    let scripts = scripts();
    let mut hash = Sha256::new();
    scripts.iter().for_each(|(name, text)| hash.update(format!("{name}\n{text}")));
    let name = format!("sisyphus_template_{}", &hex(&hash.finalize())[..12]);

    let _turn = cluster::turn("test-template.lock");
    if exists(admin, &name).await {
        return name;
    }
    drop_old(admin).await;
    let building = format!("{name}_building");
    admin.batch_execute(&format!("drop database if exists {building} with (force)")).await.expect("drop");
    admin.batch_execute(&format!("create database {building} template template0")).await.expect("create");
    install(&building, &scripts).await;
    // Renamed when complete: an install that was interrupted is never taken for a template.
    admin.batch_execute(&format!("alter database {building} rename to {name}")).await.expect("rename");
    name
}

async fn install(database: &str, scripts: &[(String, String)]) {
    let client = database::connect(&cluster::server_url(database)).await;
    client.batch_execute("create schema if not exists sisyphus").await.expect("schema");
    for (name, text) in scripts {
        if let Err(err) = client.batch_execute(text).await {
            panic!("{name} does not load: {}", place_in(text, &err));
        }
    }
    client.close().await;
}

fn place_in(text: &str, err: &tokio_postgres::Error) -> String {
    let Some(db) = err.as_db_error() else { return err.to_string() };
    let line = match db.position() {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => {
            1 + text.chars().take(*at as usize).filter(|c| *c == '\n').count()
        }
        _ => 0,
    };
    format!("line {line}: {db} {} {}", db.detail().unwrap_or_default(), db.where_().unwrap_or_default())
}

/// Name and text of all of `sql/migrations` and then `sql/code`, in load order.
fn scripts() -> Vec<(String, String)> {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let mut found = Vec::new();
    for room in ["migrations", "code"] {
        let mut names: Vec<_> = fs::read_dir(sql.join(room))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ext| ext == "sql"))
            .collect();
        names.sort();
        for path in names {
            let text = fs::read_to_string(&path).expect("readable script");
            found.push((format!("{room}/{}", path.file_name().expect("name").display()), text));
        }
    }
    found
}

async fn exists(admin: &Client, name: &str) -> bool {
    admin
        .query_opt("select from pg_database where datname = $1", &[&name])
        .await
        .expect("pg_database")
        .is_some()
}

/// Templates of an earlier `sql/`.
async fn drop_old(admin: &Client) {
    let old = "select datname from pg_database where datname like 'sisyphus\\_template\\_%'";
    for row in admin.query(old, &[]).await.expect("pg_database") {
        // Another checkout with the same target/ may be copying it: then it stays.
        admin.batch_execute(&format!("drop database if exists {}", row.get::<_, &str>(0))).await.ok();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
