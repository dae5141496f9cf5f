//! The model that the calendar is held against: a matcher that looks at every minute (or second) of a window,
//! written from the documentation and without the engine's tricks. The clocks are the server's own
//! `at time zone`, asked for each minute.

use std::fmt::Write;

use chrono::{DateTime, Datelike, Days, NaiveDate, Timelike, Weekday};
use proptest::prelude::*;

use crate::support::TestClient;

const THREE_HOURS: i64 = 3 * 3600;

/// An item of a list in a field.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// `*` or `*/n`
    All(u32),
    /// `a`
    One(u32),
    /// `a-b` or `a-b/n`
    Range(u32, u32, u32),
    /// `a/n`
    From(u32, u32),
    Last,
    LastWeekday,
    /// `15W`
    Nearest(u32),
    /// `5L`
    LastOf(u32),
    /// `5#2`
    Nth(u32, u32),
}

/// A cron expression as its parts and as a text.
#[derive(Clone)]
pub(crate) struct Cron {
    /// Second, minute, hour, day of month, month, day of week.
    fields: Vec<Vec<Item>>,
    pub(crate) text: String,
    pub(crate) has_seconds: bool,
}

const LIMITS: [(u32, u32); 6] = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7)];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Item {
    /// Whether a plain item holds a value; the special ones hold days, see [`Cron::day_matches`].
    fn holds(&self, field: usize, value: u32) -> bool {
        let (low, high) = LIMITS[field];
        let steps = |first: u32, last: u32, step: u32| {
            (first..=last).step_by(step as usize).any(|v| v == value || field == 5 && v % 7 == value)
        };
        match *self {
            Item::All(step) => steps(low, high, step),
            Item::One(one) => steps(one, one, 1),
            Item::Range(first, last, step) => steps(first, last, step),
            Item::From(first, step) => steps(first, high, step),
            _ => false,
        }
    }

    fn holds_day(&self, field: usize, day: NaiveDate) -> bool {
        let weekday = day.weekday().num_days_from_sunday();
        match *self {
            Item::Last => day == last_of_month(day),
            Item::LastWeekday => {
                let last = last_of_month(day);
                day == (0..3).map(|n| last - Days::new(n)).find(|d| is_weekday(*d)).unwrap()
            }
            Item::Nearest(wanted) => day.with_day(wanted).is_some_and(|target| {
                let near = [0, -1, 1, -2, 2].into_iter().map(|n| target + chrono::Duration::days(n));
                near.into_iter().find(|d| d.month() == target.month() && is_weekday(*d)) == Some(day)
            }),
            Item::LastOf(wanted) => wanted % 7 == weekday && day + Days::new(7) > last_of_month(day),
            Item::Nth(wanted, nth) => wanted % 7 == weekday && (day.day() - 1) / 7 + 1 == nth,
            _ => self.holds(field, if field == 5 { weekday } else { day.day() }),
        }
    }
}

fn last_of_month(day: NaiveDate) -> NaiveDate {
    (28..=31).rev().find_map(|d| day.with_day(d)).unwrap()
}

fn is_weekday(day: NaiveDate) -> bool {
    !matches!(day.weekday(), Weekday::Sat | Weekday::Sun)
}

impl std::fmt::Debug for Cron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl Cron {
    fn begins_with_star(&self, field: usize) -> bool {
        matches!(self.fields[field][0], Item::All(_))
    }

    /// Whether clock changes treat it as a wildcard job.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.begins_with_star(1) || self.begins_with_star(2)
    }

    /// The same minutes of two hours, or the full hour too, each day, without seconds.
    pub(crate) fn daily_at(&self, hours: [u32; 2], full: bool) -> Cron {
        let mut fields = self.fields.clone();
        if full {
            fields[1].push(Item::One(0));
        }
        fields[2] = hours.map(Item::One).to_vec();
        for field in &mut fields[3..] {
            *field = vec![Item::All(1)];
        }
        cron(fields, false, 0)
    }

    /// Whether a date matches.
    pub(crate) fn day_matches(&self, day: NaiveDate) -> bool {
        let date = self.fields[3].iter().any(|item| item.holds_day(3, day));
        let weekday = self.fields[5].iter().any(|item| item.holds_day(5, day));
        let days = if self.begins_with_star(3) || self.begins_with_star(5) {
            date && weekday
        } else {
            date || weekday
        };
        days && self.fields[4].iter().any(|item| item.holds(4, day.month()))
    }

    /// Whether the wall clock matches at this second of it.
    fn clock_matches(&self, wall: i64) -> bool {
        let wall = DateTime::from_timestamp(wall, 0).unwrap().naive_utc();
        let holds = |field: usize, value: u32| self.fields[field].iter().any(|i| i.holds(field, value));
        holds(0, wall.second())
            && holds(1, wall.minute())
            && holds(2, wall.hour())
            && self.day_matches(wall.date())
    }

    /// The fires in (since, until], both on a step of `step` seconds.
    pub(crate) fn fires(&self, clocks: &Clocks, since: i64, until: i64, step: i64) -> Vec<i64> {
        let mut fires = Vec::new();
        // Of a repeated hour the second pass ends when the wall clock has caught up.
        let mut repeated_until = i64::MIN;
        let from = since - THREE_HOURS - step;
        for at in (from..=until).step_by(step as usize) {
            let wall = at + clocks.offset(at);
            let before = at - step + clocks.offset(at - step);
            let jump = wall - before - step;
            let mut fire = self.clock_matches(wall);
            if !self.is_wildcard() && jump.abs() < THREE_HOURS {
                if jump > 0 {
                    fire |= (before + step..wall)
                        .step_by(step as usize)
                        .any(|skipped| self.clock_matches(skipped));
                } else if jump < 0 {
                    repeated_until = at - jump;
                }
            }
            if fire && (at >= repeated_until || self.is_wildcard()) && at > since {
                fires.push(at);
            }
        }
        fires
    }
}

/// What the clocks of a zone show in a window, as the server says: (instant, offset from there on).
pub(crate) struct Clocks(Vec<(i64, i64)>);

impl Clocks {
    /// Asks the server for every minute.
    pub(crate) async fn ask(client: &TestClient, timezone: &str, since: i64, until: i64) -> Clocks {
        let rows = client
            .query(
                "select at, off from (
                    select at, off, lag(off) over (order by at) as before
                      from generate_series($2::bigint, $3::bigint, 60) at,
                           lateral (select extract(epoch from to_timestamp(at) at time zone $1)::bigint - at as off) o
                 ) c where off is distinct from before order by at",
                &[&timezone, &since, &until],
            )
            .await
            .unwrap();
        Clocks(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// What the wall clock shows at an instant, in seconds since 1970 of the same clock.
    pub(crate) fn wall(&self, at: i64) -> i64 {
        at + self.offset(at)
    }

    fn offset(&self, at: i64) -> i64 {
        self.0.iter().rev().find(|(from, _)| *from <= at).expect("inside the window").1
    }
}

/// Any valid expression, five fields or six.
pub(crate) fn any_cron() -> impl Strategy<Value = Cron> {
    let fields: Vec<_> = (0..6).map(any_field).collect();
    (fields, any::<bool>(), any::<u64>())
        .prop_map(|(fields, has_seconds, style)| cron(fields, has_seconds, style))
}

/// Any expression for days, at midnight.
pub(crate) fn any_date_cron() -> impl Strategy<Value = Cron> {
    (any_field(3), any_field(4), any_field(5), any::<u64>()).prop_map(|(days, months, weekdays, style)| {
        let zero = || vec![Item::One(0)];
        cron(vec![zero(), zero(), zero(), days, months, weekdays], false, style)
    })
}

/// Each special day alone, at midnight: 1W to 31W, L, LW, SUN#1 to SAT#5 and 0L to 6L.
pub(crate) fn every_special_day() -> Vec<Cron> {
    let dates = (1..=31).map(Item::Nearest).chain([Item::Last, Item::LastWeekday]).map(|item| (3, item));
    let nth = (0..7).flat_map(|weekday| (1..=5).map(move |nth| (5, Item::Nth(weekday, nth))));
    let last = (0..7).map(|weekday| (5, Item::LastOf(weekday)));
    dates
        .chain(nth)
        .chain(last)
        .map(|(field, item)| {
            let mut fields = vec![vec![Item::One(0)]; 3];
            fields.extend(vec![vec![Item::All(1)]; 3]);
            fields[field] = vec![item];
            cron(fields, false, 0)
        })
        .collect()
}

fn cron(mut fields: Vec<Vec<Item>>, has_seconds: bool, mut style: u64) -> Cron {
    if !has_seconds {
        fields[0] = vec![Item::One(0)];
    }
    let mut text = String::new();
    for (field, items) in fields.iter().enumerate().skip(usize::from(!has_seconds)) {
        style = style.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let blank = [" ", " ", " ", "  ", "\t", " \t "][(style >> 40) as usize % 6];
        let separator = if text.is_empty() && style >> 60 > 2 { "" } else { blank };
        text.push_str(separator);
        let items: Vec<String> = items.iter().map(|item| item_text(item, field, style)).collect();
        text.push_str(&items.join(","));
    }
    Cron { fields, text, has_seconds }
}

fn item_text(item: &Item, field: usize, style: u64) -> String {
    let value = |v: u32| {
        let name = match field {
            4 => Some(MONTHS[v as usize - 1]),
            5 if v < 7 => Some(WEEKDAYS[v as usize]),
            _ => None,
        };
        match (name, style >> 50 & 3) {
            (Some(name), 0) => name.to_owned(),
            (Some(name), 1) => name.to_uppercase(),
            (_, 2) => format!("{v:02}"),
            _ => v.to_string(),
        }
    };
    let mut text = match *item {
        Item::All(_) => "*".to_owned(),
        Item::One(v) | Item::From(v, _) => value(v),
        Item::Range(first, last, _) => format!("{}-{}", value(first), value(last)),
        Item::Last => "L".to_owned(),
        Item::LastWeekday => "LW".to_owned(),
        Item::Nearest(day) => format!("{day}W"),
        Item::LastOf(weekday) => format!("{weekday}L"),
        Item::Nth(weekday, nth) => format!("{}#{nth}", value(weekday)),
    };
    if let Item::All(step @ 2..) | Item::Range(_, _, step @ 2..) | Item::From(_, step) = *item {
        write!(text, "/{step}").unwrap();
    }
    text
}

fn any_field(field: usize) -> BoxedStrategy<Vec<Item>> {
    let (low, high) = LIMITS[field];
    let plain = prop_oneof![
        4 => (low..=high).prop_map(Item::One),
        2 => (low..=high, low..=high, 1..=5u32).prop_map(|(a, b, n)| Item::Range(a.min(b), a.max(b), n)),
        1 => (low..=high, 1..=20u32).prop_map(|(a, n)| Item::From(a, n)),
    ]
    .boxed();
    let item = match field {
        3 => prop_oneof![
            5 => plain,
            1 => Just(Item::Last),
            1 => Just(Item::LastWeekday),
            1 => (1..=31u32).prop_map(Item::Nearest),
        ]
        .boxed(),
        5 => prop_oneof![
            5 => plain,
            1 => (0..=7u32).prop_map(Item::LastOf),
            1 => (0..=7u32, 1..=5u32).prop_map(|(d, n)| Item::Nth(d, n)),
        ]
        .boxed(),
        _ => plain,
    };
    prop_oneof![
        3 => Just(vec![Item::All(1)]),
        1 => (2..=20u32).prop_map(|n| vec![Item::All(n)]),
        3 => prop::collection::vec(item, 1..4),
    ]
    .boxed()
}
