//! House rules of the schema, each one question to the catalogue: whatever it names breaks the rule.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use crate::support;

/// Runs a query of one text column and asserts that it finds nothing.
async fn assert_none(client: &Client, rule: &str, query: &str) {
    let found: Vec<String> = client
        .query(query, &[])
        .await
        .unwrap_or_else(|err| panic!("{rule}: {err:?}"))
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(found.is_empty(), "{rule}; these do not:\n{}", found.join("\n"));
}

/// Names of the functions that the given code files define.
fn defined_in(files: &[&str]) -> BTreeSet<String> {
    sisyphus::migrate::CODE
        .iter()
        .filter(|(name, _)| files.iter().any(|file| name.starts_with(file)))
        .flat_map(|(_, text)| definitions(text))
        .map(|(name, _)| name)
        .collect()
}

/// Name and header (up to the body) of each function in a code file.
fn definitions(text: &str) -> Vec<(String, String)> {
    text.split("create or replace function sisyphus.")
        .skip(1)
        .map(|rest| {
            let name = rest.split('(').next().expect("split gives one").to_owned();
            let body = ["\nas $", "\nbegin atomic", "\nas '"].iter().filter_map(|mark| rest.find(mark)).min();
            (name, rest[..body.unwrap_or(rest.len())].to_owned())
        })
        .collect()
}

#[test]
fn every_function_is_written_once_and_states_volatility_and_parallel_safety() {
    let mut seen = BTreeSet::new();
    for (file, text) in sisyphus::migrate::CODE {
        for (name, header) in definitions(text) {
            let states =
                |words: &[&str]| words.iter().any(|word| header.lines().any(|line| line.contains(word)));
            assert!(states(&["immutable", "stable", "volatile"]), "{file}: {name} states no volatility");
            assert!(
                states(&["parallel safe", "parallel unsafe", "parallel restricted"]),
                "{file}: {name} says nothing of parallel"
            );
            assert!(seen.insert(name.clone()), "{file}: {name} is defined twice");
        }
    }
    assert!(seen.len() > 50, "the files could not be read: {seen:?}");
}

#[tokio::test]
async fn every_function_pins_its_search_path_or_has_a_bound_body() {
    let db = support::db().await;
    let client = db.client().await;
    // The calendar's inner functions run thousands of times a tick and a SET clause costs more than their work.
    // They may do without: no client can call one, so they run under the path of a caller that pins it.
    let hot: Vec<String> =
        defined_in(&["20_", "21_", "22_", "23_", "24_", "25_", "26_"]).into_iter().collect();
    let query = "
        select p.oid::regprocedure::text
          from pg_proc p
         where p.pronamespace = 'sisyphus'::regnamespace
           and p.prosqlbody is null
           and not coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false)
           and not (p.proname = any ($1::text[]::name[]) and not p.prosecdef
                    and not exists (select from aclexplode(p.proacl) x where x.grantee <> p.proowner))";
    let found: Vec<String> =
        client.query(query, &[&hot]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert!(found.is_empty(), "these pin no search_path:\n{}", found.join("\n"));
}

#[tokio::test]
async fn everything_has_a_comment() {
    let db = support::db().await;
    let client = db.client().await;
    let query = "
        select format('function %s', p.oid::regprocedure)
          from pg_proc p
         where p.pronamespace = 'sisyphus'::regnamespace and obj_description(p.oid, 'pg_proc') is null
         union all
        select format('%s %s', case c.relkind when 'v' then 'view' when 'S' then 'sequence' when 'i' then 'index'
                                              when 'I' then 'index' else 'table' end, c.oid::regclass)
          from pg_class c
         where c.relnamespace = 'sisyphus'::regnamespace
           and not c.relispartition
           and obj_description(c.oid, 'pg_class') is null
           -- What belongs to a constraint or an identity column is described there.
           and not exists (select from pg_constraint k where k.conindid = c.oid)
           and not exists (select from pg_depend d where d.objid = c.oid and d.classid = 'pg_class'::regclass
                                                     and d.deptype = 'i')
         union all
        select format('column %s.%s', c.oid::regclass, a.attname)
          from pg_class c
               join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where c.relnamespace = 'sisyphus'::regnamespace
           and c.relkind in ('r', 'p', 'v')
           and not c.relispartition
           and col_description(c.oid, a.attnum) is null
         union all
        select format('type %s', t.oid::regtype)
          from pg_type t
         where t.typnamespace = 'sisyphus'::regnamespace and t.typtype in ('d', 'e')
           and obj_description(t.oid, 'pg_type') is null
         union all
        select 'schema' where obj_description('sisyphus'::regnamespace, 'pg_namespace') is null";
    assert_none(&client, "everything has a comment", query).await;
}

#[tokio::test]
async fn public_may_do_nothing() {
    let db = support::db().await;
    let client = db.client().await;
    let query = "
        select format('%s on %s', x.privilege_type, p.oid::regprocedure)
          from pg_proc p
               cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
         where p.pronamespace = 'sisyphus'::regnamespace and x.grantee = 0
         union all
        select format('%s on %s', x.privilege_type, c.oid::regclass)
          from pg_class c
               cross join lateral aclexplode(c.relacl) x
         where c.relnamespace = 'sisyphus'::regnamespace and x.grantee = 0
         union all
        select format('%s on schema', x.privilege_type)
          from pg_namespace n
               cross join lateral aclexplode(n.nspacl) x
         where n.nspname = 'sisyphus' and x.grantee = 0";
    assert_none(&client, "PUBLIC may do nothing", query).await;
}

#[tokio::test]
async fn clients_get_functions_and_views_and_no_table() {
    let db = support::db().await;
    let client = db.client().await;
    let query = "
        select format('%s on %s for %s', x.privilege_type, c.oid::regclass, x.grantee::regrole)
          from pg_class c
               cross join lateral aclexplode(c.relacl) x
         where c.relnamespace = 'sisyphus'::regnamespace
           and x.grantee <> c.relowner
           and not (c.relkind = 'v' and x.privilege_type = 'SELECT')";
    assert_none(&client, "clients get views to read, and nothing else", query).await;
}

/// Else an update of it fails as soon as somebody publishes all tables, for logical replication or change capture.
#[tokio::test]
async fn every_table_can_be_published() {
    let db = support::db().await;
    let client = db.client().await;
    // Makes the partitions.
    client.batch_execute("select sisyphus.tick()").await.unwrap();
    assert_none(
        &client,
        "every table has a replica identity",
        "select c.relname::text from pg_class c
          where c.relnamespace = 'sisyphus'::regnamespace and c.relkind = 'r' and c.relreplident <> 'f'
            and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)",
    )
    .await;
}

#[tokio::test]
async fn every_foreign_key_has_an_index() {
    let db = support::db().await;
    let client = db.client().await;
    let query = "
        select format('%s of %s', k.conname, k.conrelid::regclass)
          from pg_constraint k
         where k.connamespace = 'sisyphus'::regnamespace
           and k.contype = 'f'
           and not exists (
               select from pg_index i
                where i.indrelid = k.conrelid and i.indpred is null
                  and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)";
    assert_none(&client, "every foreign key has an index", query).await;
}

#[tokio::test]
async fn constraints_are_named_after_their_table_and_rule() {
    let db = support::db().await;
    let client = db.client().await;
    let query = "
        select format('%s of %s', k.conname, c.oid::regclass)
          from pg_constraint k
               join pg_class c on c.oid = k.conrelid
         where k.connamespace = 'sisyphus'::regnamespace
           and not c.relispartition
           and k.contype in ('c', 'f', 'p', 'u')
           and k.conname !~ ('^' || c.relname || '(_.+)?_(check|fkey|pkey|key)$')";
    assert_none(&client, "constraints are <table>_<rule>_check, _fkey, _pkey or _key", query).await;
}

// A plan that is turned off counts as dear; what is dear is compiled, and compiling takes a hundred times what it saves.
#[tokio::test]
async fn a_function_that_forbids_plans_does_not_compile_them() {
    let db = support::db().await;
    let client = db.client().await;
    assert_none(
        &client,
        "a function that turns plans off turns jit off",
        "select p.oid::regprocedure::text from pg_proc p
          where p.pronamespace = 'sisyphus'::regnamespace
            and exists (select from unnest(p.proconfig) c where c like 'enable_%=off')
            and not 'jit=off' = any(p.proconfig)",
    )
    .await;
}

// A subtransaction is an error in a parallel plan. Only what is neither quoted nor a comment is a call.
#[tokio::test]
async fn what_catches_errors_or_calls_what_does_is_in_no_parallel_plan() {
    let db = support::db().await;
    let client = db.client().await;
    let query = r"
        with recursive function as (
            select p.proname::text as name, p.proparallel as parallel,
                   regexp_replace(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), '''[^'']*''|--[^\n]*', '', 'g') as body
              from pg_proc p where p.pronamespace = 'sisyphus'::regnamespace),
        unsafe as (
            select name, parallel from function where parallel = 'u' or body ~ '\mexception\s+when\M'
            union
            select f.name, f.parallel from unsafe u join function f on f.body ~ ('\m' || u.name || '\('))
        select name from unsafe where parallel <> 'u'";
    assert_none(&client, "what catches is labelled parallel unsafe, and so is who calls it", query).await;
}

#[tokio::test]
async fn the_shipped_clock_reads_the_servers() {
    let db = support::db().await;
    let client = db.client().await;
    let body: String = client
        .query_one("select pg_get_functiondef('sisyphus._clock()'::regprocedure)", &[])
        .await
        .unwrap()
        .get(0);
    assert!(body.contains("SELECT clock_timestamp() AS clock_timestamp;"), "{body}");
}

#[tokio::test]
async fn state_depends_on_no_code() {
    let db = support::db().await;
    let client = db.client().await;
    // A function of ours in a default, constraint or index would chain migrations to the code bundle.
    let query = "
        select distinct format('%s of %s', d.classid::regclass, d.objid)
          from pg_depend d
               join pg_proc p on d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid
         where p.pronamespace = 'sisyphus'::regnamespace
           and d.classid in ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass, 'pg_type'::regclass)";
    assert_none(&client, "tables use no function of ours", query).await;
}

#[tokio::test]
async fn plpgsql_check_finds_nothing() {
    let db = support::db().await;
    let client = db.client().await;
    if let Err(err) = client.batch_execute("create extension plpgsql_check").await {
        eprintln!(
            "SKIPPED: plpgsql_check is not installed (apt-get install postgresql-15-plpgsql-check): {err}"
        );
        return;
    }
    let query = "
        select format('%s line %s: %s %s %s', p.oid::regprocedure, c.lineno, c.level, c.message, c.context)
          from pg_proc p
               join pg_language l on l.oid = p.prolang and l.lanname = 'plpgsql'
               cross join lateral plpgsql_check_function_tb(
                   p.oid, other_warnings => true, extra_warnings => true, security_warnings => true) c
         where p.pronamespace = 'sisyphus'::regnamespace
           -- It takes a LOOP that only RETURN leaves for one that may end.
           and c.sqlstate is distinct from '2F005'
         order by 1";
    assert_none(&client, "plpgsql_check finds nothing", query).await;
}

#[tokio::test]
async fn uninstalling_leaves_nothing() {
    let db = support::db().await;
    let client = db.client().await;
    client.batch_execute("drop schema sisyphus cascade").await.unwrap();
    let query = "
        select format('%s %s', c.relkind, c.oid::regclass) from pg_class c
         where c.relowner = 'sisyphus_owner'::regrole
         union all
        select p.oid::regprocedure::text from pg_proc p where p.proowner = 'sisyphus_owner'::regrole
         union all
        select n.nspname::text from pg_namespace n where n.nspname like '%sisyphus%'";
    assert_none(&client, "drop schema takes all of it", query).await;
    let mut client = db.client().await;
    sisyphus::migrate::migrate(&mut client).await.expect("it can be installed again");
}
