//! Embeds `sql/code/*.sql` in load order, and makes a new or removed file in `sql/` a reason to rebuild
//! (the refinery macro alone does not notice one).

use std::{env, fmt::Write, fs, io, path::Path};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=sql");

    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    let code = Path::new(&root).join("sql/code");

    let mut names: Vec<String> = fs::read_dir(&code)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.as_ref().map_or(true, |n| n.ends_with(".sql")))
        .collect::<io::Result<_>>()?;
    names.sort();

    let mut source = String::from("&[\n");
    for name in &names {
        writeln!(source, "    ({name:?}, include_str!({:?})),", code.join(name)).expect("a String takes it");
    }
    source.push_str("]\n");
    fs::write(Path::new(&out).join("bundle.rs"), source)
}
