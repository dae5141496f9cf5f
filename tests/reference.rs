//! The reference pages say what the catalogue says.

use std::{collections::BTreeSet, env, fmt::Write, fs, path::PathBuf};

use crate::support::{self, TestClient};

fn page(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

/// The words in backticks in a column of the tables of a chapter.
fn cells(text: &str, chapter: &str, column: usize) -> BTreeSet<String> {
    let rest = text.split(&format!("\n## {chapter}\n")).nth(1).expect("the chapter exists");
    rest.split("\n## ")
        .next()
        .expect("split gives one")
        .lines()
        .filter(|line| line.starts_with('|'))
        .filter_map(|line| line.split('|').nth(column + 1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

async fn states_of(client: &TestClient, constraint: &str) -> BTreeSet<String> {
    let text: String = client
        .query_one(
            "select pg_get_constraintdef(oid) from pg_constraint where conname = $1 and coninhcount = 0",
            &[&constraint],
        )
        .await
        .unwrap()
        .get(0);
    text.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_states_are_those_of_the_constraints() {
    let db = support::db().await;
    let client = db.client().await;
    let text = fs::read_to_string(page("states.md")).unwrap();
    let live = states_of(&client, "run_state_check").await;
    let ended = states_of(&client, "attempt_state_check").await;
    assert_eq!(cells(&text, "Live states", 0), live);
    assert_eq!(cells(&text, "Final states", 0), ended);
    let all: BTreeSet<String> = live.union(&ended).cloned().collect();
    assert_eq!(BTreeSet::from(sisyphus::db::STATES.map(str::to_owned)), all, "the command line takes each");
    let to = cells(&text, "Transitions", 1);
    assert_eq!(to, all, "every state is reached, and no other");
    assert!(cells(&text, "Transitions", 0).is_subset(&all));
    for name in cells(&text, "Transitions", 2) {
        let found: i64 = client
            .query_one("select count(*) from pg_proc where pronamespace = 'sisyphus'::regnamespace and proname = $1::text::name", &[&name])
            .await
            .unwrap()
            .get(0);
        assert_eq!(found, 1, "there is no function {name}");
    }
}

#[tokio::test]
async fn the_reference_is_that_of_the_catalogue() {
    let db = support::db().await;
    let client = db.client().await;
    let should_be = format!("{}\n{}{}", HEAD, functions(&client).await, views(&client).await);
    let path = page("reference.md");
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, &should_be).unwrap();
        return;
    }
    let is = fs::read_to_string(&path).unwrap_or_default();
    let differing = is.lines().zip(should_be.lines()).find(|(is, should_be)| is != should_be);
    assert!(
        is == should_be,
        "docs/reference.md is not what the catalogue says, first here (page, catalogue): {differing:#?}\n\
         this writes it: UPDATE_SNAPSHOTS=1 cargo nextest run the_reference_is"
    );
}

const HEAD: &str = "# Reference

All of it in schema `sisyphus`, written from the catalogue: `\\df+ sisyphus.*` and `\\d+ sisyphus.history` in psql say the same.
Call functions with named arguments: `select sisyphus.schedule('report', '0 7 * * *', command => 'make report', ttl => '10 min')`.
*For* names the group roles that may call a function (`sisyphus_author` and so on); an author acts on the jobs of its own roles.
";

/// The chapters, by the number that the code file begins with.
fn chapter(file: &str) -> &'static str {
    match &file[..2] {
        "20" | "21" | "22" | "23" | "24" | "35" => "Calendar",
        "30" | "31" | "32" | "33" | "34" => "Jobs",
        "70" | "71" => "Runs",
        "36" | "75" | "76" | "77" | "78" | "79" => "Hosts and settings",
        "86" => "Why",
        _ => "Guardian protocol and upkeep",
    }
}

/// The code file that defines a function.
fn file_of(name: &str) -> &'static str {
    let definition = format!("create or replace function sisyphus.{name}(");
    sisyphus::migrate::CODE
        .iter()
        .find(|(_, text)| text.contains(&definition))
        .map_or_else(|| panic!("no file defines {name}"), |(file, _)| *file)
}

async fn functions(client: &TestClient) -> String {
    let query = "
        select p.proname::text,
               array(select trim(a) from unnest(string_to_array(
                   replace(pg_get_function_arguments(p.oid), ' DEFAULT ', ' default '), ', ')) a),
               replace(pg_get_function_result(p.oid), 'timestamp with time zone', 'timestamptz'),
               (select string_agg(replace(x.grantee::regrole::text, 'sisyphus_', ''), ', ' order by x.grantee::regrole::text)
                  from aclexplode(p.proacl) x where x.grantee <> p.proowner),
               obj_description(p.oid, 'pg_proc')
          from pg_proc p
         where p.pronamespace = 'sisyphus'::regnamespace and p.proname not like '\\_%'
         order by p.proname";
    let mut by_chapter: std::collections::BTreeMap<&str, String> = std::collections::BTreeMap::new();
    for row in client.query(query, &[]).await.unwrap() {
        let name: String = row.get(0);
        let file = file_of(&name);
        let arguments: Vec<String> = row.get(1);
        let text = by_chapter.entry(chapter(file)).or_default();
        writeln!(
            text,
            "### {name}\n\n```\n{}\n```\n\n{}.\n\n*For* {}. *Source* `sql/code/{file}`.\n",
            signature(&name, &arguments, row.get(2)),
            row.get::<_, String>(4).trim_end_matches('.'),
            row.get::<_, Option<String>>(3).unwrap_or_else(|| "nobody".to_owned()),
        )
        .unwrap();
    }
    let order = ["Jobs", "Runs", "Why", "Calendar", "Hosts and settings", "Guardian protocol and upkeep"];
    order
        .iter()
        .filter_map(|chapter| by_chapter.get(chapter).map(|text| format!("## {chapter}\n\n{text}")))
        .collect()
}

/// On one line where it fits, else filled to the width of the page.
fn signature(name: &str, arguments: &[String], result: &str) -> String {
    // As a person writes it, and a default without the cast that the catalogue adds.
    let words = [
        ("timestamp with time zone", "timestamptz"),
        ("timestamp without time zone", "timestamp"),
        ("double precision", "float8"),
        ("integer", "int"),
        ("TABLE", "table"),
        ("SETOF", "setof"),
        ("NULL", "null"),
    ];
    let short = |text: &str| {
        let text = words.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        text.split("::").next().unwrap_or_default().to_owned()
    };
    let mut lines = vec![format!("{name}(")];
    for (at, argument) in arguments.iter().enumerate() {
        let end = if at + 1 == arguments.len() { ")" } else { "," };
        let argument = format!("{}{end}", short(argument));
        let line = lines.last_mut().expect("it began with one");
        if line.chars().count() + argument.chars().count() + 1 > 110 {
            lines.push(format!("    {argument}"));
        } else {
            if !line.ends_with('(') {
                line.push(' ');
            }
            line.push_str(&argument);
        }
    }
    let line = lines.last_mut().expect("it began with one");
    if arguments.is_empty() {
        line.push(')');
    }
    let result = format!("returns {}", short(result));
    if line.chars().count() + result.chars().count() + 1 > 110 {
        lines.push(format!("    {result}"));
    } else {
        write!(line, " {result}").unwrap();
    }
    lines.join("\n")
}

async fn views(client: &TestClient) -> String {
    let query = "
        select c.relname::text, obj_description(c.oid, 'pg_class'),
               array_agg(format('| `%s` | %s | %s |', a.attname,
                                replace(replace(format_type(a.atttypid, null), 'timestamp with time zone', 'timestamptz'),
                                        'double precision', 'float8'),
                                col_description(c.oid, a.attnum)) order by a.attnum)
          from pg_class c
               join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relnamespace = 'sisyphus'::regnamespace and c.relkind = 'v'
         group by c.oid
         order by array_position('{overview,live,running,upcoming,overdue,history,failures,fleet,queue_depth,definitions,settings,
                                   audit_log,metrics}', c.relname::text)";
    let mut text = String::from(
        "## Views\n\nFor admin, author, operator and viewer. Columns are only ever added at the end.\n",
    );
    for row in client.query(query, &[]).await.unwrap() {
        let name: String = row.get(0);
        writeln!(text, "\n### {name}\n\n{}.", row.get::<_, String>(1)).unwrap();
        if name == "failures" {
            continue;
        }
        writeln!(
            text,
            "\n| column | type | what it is |\n|---|---|---|\n{}",
            row.get::<_, Vec<String>>(2).join("\n")
        )
        .unwrap();
    }
    text
}
