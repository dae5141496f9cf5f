//! Who installs the schema: what a managed service gives is a role that owns its database and makes roles.

use std::{fs, path::Path};

use sisyphus::{
    dev::cluster::{Cluster, Durability, SUPERUSER, url},
    migrate,
};

use crate::support::{self, TestClient};

const FIRST_DAY: &str = "
    select sisyphus.create_pool('web');
    create role web1 login in role sisyphus_guardian;
    select sisyphus.bind_guardian('web1', host => 'web1', pools => '{web}');
    create role alice login in role sisyphus_author";

/// A cluster of its own, for the group roles must not be there yet.
#[tokio::test]
async fn who_owns_the_database_and_may_create_roles_installs_and_upgrades() {
    let dir = support::folder();
    let cluster = Cluster::start(&dir.path().join("pg"), Durability::None).unwrap();
    let role = async |name: &str, database: &str| support::connect(&url(cluster.dir(), name, database)).await;
    let superuser = role(SUPERUSER, "postgres").await;
    run(&superuser, "create role boss login createrole").await;
    run(&superuser, "create database jobs owner boss").await;

    let mut boss = role("boss", "jobs").await;
    migrate::migrate(&mut boss).await.unwrap_or_else(|err| panic!("{}", support::told(&err)));
    run(&boss, FIRST_DAY).await;
    run(&role("alice", "jobs").await, "select sisyphus.schedule('hello', null, 'true', pool => 'web')").await;
    let web1 = role("web1", "jobs").await;
    run(&web1, "select sisyphus.register_guardian('web1', 1); select sisyphus.tick()").await;

    run(&boss, "update sisyphus.installation set bundle_checksum = null").await;
    let upgrade = migrate::migrate(&mut boss).await.unwrap_or_else(|err| panic!("{}", support::told(&err)));
    assert!(upgrade.code);

    for client in [superuser, boss, web1] {
        client.close().await;
    }
    cluster.stop().unwrap();
}

/// Every statement comes in the client's encoding and must have its characters in the server's, those of comments too.
#[tokio::test]
async fn a_database_of_another_encoding_is_as_good() {
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    for dir in ["migrations", "code"] {
        for file in fs::read_dir(sql.join(dir)).unwrap() {
            let path = file.unwrap().path();
            assert!(fs::read(&path).unwrap().is_ascii(), "not ASCII alone: {}", path.display());
        }
    }
    let db = support::empty_db_of("LATIN1").await;
    let mut client = db.client().await;
    migrate::migrate(&mut client).await.unwrap_or_else(|err| panic!("{}", support::told(&err)));
    run(&client, "select sisyphus.schedule('bj\u{f6}rn', '0 7 * * *', 'echo \u{e4}')").await;
    let err = client.batch_execute("select sisyphus.schedule('\u{20ac}', null, 'true')").await;
    support::assert_sqlstate(err, "22P05");
}

#[tokio::test]
async fn what_a_session_quotes_does_not_matter_to_what_it_installs() {
    let db = support::empty_db().await;
    let mut client = db.client().await;
    run(&client, "set quote_all_identifiers = on").await;
    migrate::migrate(&mut client).await.unwrap_or_else(|err| panic!("{}", support::told(&err)));
}

async fn run(client: &TestClient, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|err| panic!("{sql}: {err:?}"));
}
