//! Connection strings in libpq's two forms: `postgresql://user@host/database?option=value` and `host=… dbname=…`.

/// Name and value of each option, in order.
pub(super) type Options = Vec<(String, String)>;

/// The options of a connection string, or what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Options, String> {
    let rest = ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match rest {
        Some(rest) => parse_url(rest),
        None => parse_words(text),
    }
}

fn parse_url(text: &str) -> Result<Options, String> {
    let mut options = Options::new();
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let (authority, database) = text.split_once('/').unwrap_or((text, ""));
    // A password may hold an @ that nobody has encoded: the last one counts.
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            add(&mut options, "user", user)?;
            add(&mut options, "password", password)?;
            hosts
        }
        None => authority,
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = split_port(host)?;
        names.push(decode(name)?);
        ports.push(port);
    }
    if names.iter().any(|name| !name.is_empty()) {
        options.push(("host".to_owned(), names.join(",")));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        options.push(("port".to_owned(), ports.join(",")));
    }
    add(&mut options, "dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("the option {pair:?} has no value"))?;
        match (decode(name)?, decode(value)?) {
            // As JDBC writes it; libpq takes that too.
            (name, value) if name == "ssl" && value == "true" => {
                options.push(("sslmode".to_owned(), "require".to_owned()));
            }
            option => options.push(option),
        }
    }
    Ok(options)
}

fn add(options: &mut Options, name: &str, encoded: &str) -> Result<(), String> {
    if !encoded.is_empty() {
        options.push((name.to_owned(), decode(encoded)?));
    }
    Ok(())
}

/// Host and port; an IPv6 address stands in brackets.
fn split_port(host: &str) -> Result<(&str, &str), String> {
    let Some(inner) = host.strip_prefix('[') else {
        return Ok(host.rsplit_once(':').unwrap_or((host, "")));
    };
    let (address, rest) = inner.split_once(']').ok_or_else(|| format!("{host:?} has no closing bracket"))?;
    match rest.strip_prefix(':') {
        Some(port) => Ok((address, port)),
        None if rest.is_empty() => Ok((address, "")),
        None => Err(format!("{rest:?} after an address in brackets")),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(|d| (d as char).to_digit(16)));
        match digits {
            [Some(high), Some(low)] if high + low > 0 => bytes.push((high * 16 + low) as u8),
            _ => return Err(format!("a percent sign in {text:?} is not followed by two hexadecimal digits")),
        }
    }
    String::from_utf8(bytes).map_err(|_| format!("{text:?} does not decode to UTF-8"))
}

fn parse_words(text: &str) -> Result<Options, String> {
    let mut options = Options::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once('=')
            .ok_or_else(|| format!("{:?} is no option of the form name=value", rest.trim_end()))?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("{name:?} is no name of an option"));
        }
        let (value, after) = read_value(after.trim_start())?;
        options.push((name.to_owned(), value));
        rest = after.trim_start();
    }
    Ok(options)
}

/// A value up to a blank, or in single quotes; a backslash takes the next character as it is.
fn read_value(text: &str) -> Result<(String, &str), String> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            c if !quoted && c.is_whitespace() => return Ok((value, &body[at..])),
            c => value.push(c),
        }
    }
    if quoted { Err("a quoted value has no end".to_owned()) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap_or_else(|err| panic!("{text}: {err}"))
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_url_has_user_password_hosts_database_and_options() {
        assert_eq!(
            parsed(
                "postgresql://ann:p%40ss:w@db1:5433,[::1],%2Ftmp%2Fpg/jobs?sslmode=require&options=-c%20a%3Db"
            ),
            pairs(&[
                ("user", "ann"),
                ("password", "p@ss:w"),
                ("host", "db1,::1,/tmp/pg"),
                ("port", "5433,,"),
                ("dbname", "jobs"),
                ("sslmode", "require"),
                ("options", "-c a=b"),
            ])
        );
        assert_eq!(parsed("postgres://"), []);
        assert_eq!(
            parsed("postgresql:///jobs?host=/tmp/pg"),
            pairs(&[("dbname", "jobs"), ("host", "/tmp/pg")])
        );
        assert_eq!(parsed("postgresql://h?ssl=true"), pairs(&[("host", "h"), ("sslmode", "require")]));
    }

    #[test]
    fn words_may_have_blanks_and_quotes() {
        assert_eq!(
            parsed(r" host = db1  password='a b\'c\\' dbname=jobs options=-c\ x=1 user=''"),
            pairs(&[
                ("host", "db1"),
                ("password", r"a b'c\"),
                ("dbname", "jobs"),
                ("options", "-c x=1"),
                ("user", ""),
            ])
        );
    }

    #[test]
    fn what_is_neither_says_why() {
        for (text, why) in [
            ("jobs", "\"jobs\" is no option"),
            ("host=a jobs", "\"jobs\" is no option"),
            ("a b=c", "\"a b\" is no name"),
            ("host='a", "no end"),
            ("postgresql://h/%4", "percent sign"),
            ("postgresql://h/%00", "percent sign"),
            ("postgresql://[::1/x", "closing bracket"),
            ("postgresql://h/d?sslmode", "has no value"),
        ] {
            let said = parse(text).expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
