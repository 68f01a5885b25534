use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::deliver::Today;
use crate::status::tests::populated;

/// A status whose sink was given something today.
fn given() -> Status {
    let mut status = populated();
    let day = status.taken.date_naive();
    status.sinks[0].today = Some(Today { day, records: 5, bytes: 7_000, max_per_day: Some(9_000) });
    status
}

#[test]
fn the_names_and_types_are_these() {
    let text = Metrics::of(&given()).text();
    let types: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let types: Vec<&str> = types.into_iter().collect();
    insta::assert_snapshot!(types.join("\n"));
}

#[test]
fn the_values_are_those_of_the_status() {
    let text = Metrics::of(&given()).text();
    for line in [
        r#"lockstep_stream_rows_total{query="table=1",scope="",site="acme",source="unified_audit"} 1234"#,
        r#"lockstep_stream_lag_seconds{query="table=1",scope="",site="acme",source="unified_audit"} 120"#,
        r#"lockstep_stream_condition{condition="missing_role",query="",scope="north",site="acme",source="computers"} 1"#,
        r#"lockstep_stream_condition{condition="ok",query="",scope="north",site="acme",source="computers"} 0"#,
        r#"lockstep_stream_unproven_seconds{query="table=1",scope="",site="acme",source="unified_audit",state="pending"} 7140"#,
        r#"lockstep_stream_unproven_intervals{query="",scope="north",site="acme",source="computers",state="unknown"} 1"#,
        r#"lockstep_silent_organizations{query="table=1",site="acme",source="unified_audit"} 1"#,
        r#"lockstep_changed_fields{change="added",query="",site="acme",source="computers"} 1"#,
        r#"lockstep_credential_ok{site="acme"} 1"#,
        r#"lockstep_portal_clock_offset_seconds{site="acme"} -190"#,
        // The oldest entry is 10 minutes old on the portal's clock, which is 190 s behind ours.
        r#"lockstep_sink_lag_seconds{sink="out",type="file"} 410"#,
        r#"lockstep_sink_state{sink="out",state="held",type="file"} 1"#,
        r#"lockstep_sink_day_bytes{sink="out",type="file"} 7000"#,
        r#"lockstep_sink_max_per_day_bytes{sink="out",type="file"} 9000"#,
        r#"lockstep_build_info{version="1.2.3"} 1"#,
        "lockstep_dead_letters 3",
        "process_resident_memory_bytes 52428800",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(r#"lockstep_credential_ok{site="lab"}"#), "nobody asked it yet");
}

#[test]
fn what_a_day_brought_is_nothing_on_the_next_before_anything_came() {
    let mut status = given();
    status.taken += chrono::Duration::days(1);
    let text = Metrics::of(&status).text();
    assert!(text.contains(r#"lockstep_sink_day_bytes{sink="out",type="file"} 0"#), "{text}");
}

#[test]
fn a_label_may_hold_anything() {
    let mut status = populated();
    status.sites[0].site = "a\"b\\c\nd".to_owned();
    let text = Metrics::of(&status).text();
    assert!(text.contains(r#"lockstep_credential_ok{site="a\"b\\c\nd"} 1"#), "{text}");
}

/// `promtool` comes from the Debian package `prometheus`; `tests/run` fetches it.
#[test]
fn promtool_accepts_the_metrics() {
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match checked {
        Ok(promtool) => promtool,
        Err(error) if std::env::var_os("CI").is_some_and(|ci| ci == "true") => {
            panic!("promtool (Debian package prometheus) cannot be started: {error}")
        }
        Err(error) => {
            eprintln!(
                "******** SKIPPED: promtool (Debian package prometheus) judges /metrics: {error} ********"
            );
            return;
        }
    };
    let text = Metrics::of(&populated()).text();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let judged = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&judged.stdout).into_owned() + &String::from_utf8_lossy(&judged.stderr);
    assert!(judged.status.success() && said.is_empty(), "{said}");
}
