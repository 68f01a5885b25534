//! The crash rules, on a real directory: the model is a list of numbers, each to be found exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use flate2::read::MultiGzDecoder;
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::files::Files;
use super::*;
use crate::durable::disk::{self, Step};
use crate::model::{Kind, Lane, OrganizationId};
use crate::sink::{Record, Remedy};

const BATCH: u64 = 400;

/// A file sink, the state that its store holds for it, and the numbers that were confirmed.
struct Model {
    directory: TempDir,
    settings: Settings,
    saved: SinkState,
    confirmed: u32,
    now: DateTime<Utc>,
    notices: Vec<String>,
}

impl Model {
    fn new(template: &str) -> Self {
        Self::packed(template, Compression::None)
    }

    fn packed(template: &str, compression: Compression) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: path(&directory, template, compression),
            rotate_size: 900,
            rotate_age: Duration::from_secs(3600),
            batch: BATCH,
            most_open: MOST_OPEN,
            most_names: MOST_NAMES,
        };
        let now = DateTime::from_timestamp(1_795_305_600, 0).unwrap();
        Self { directory, settings, saved: SinkState::default(), confirmed: 0, now, notices: Vec::new() }
    }

    fn start(&mut self) -> Result<Files, SinkError> {
        let mut files = Files::load(self.settings.clone(), &self.saved)?;
        let recovered = files.recover();
        self.notices.append(&mut files.notices);
        recovered.map(|()| files)
    }

    /// The next `count` numbers; which file each goes to follows from the number alone.
    fn batch(&self, count: u32) -> Batch {
        let (mut records, mut buffer) = (Vec::new(), Vec::new());
        for number in self.confirmed..self.confirmed + count {
            let start = buffer.len();
            buffer.extend_from_slice(
                format!("{{\"number\":{number},\"pad\":\"{:>w$}\"}}\n", "", w = 10).as_bytes(),
            );
            records.push(Record { bytes: start..buffer.len(), ..record(number) });
        }
        Batch { records: records.into(), buffer: buffer.into(), again: false }
    }

    fn deliver(&mut self, files: &mut Files, count: u32) -> Result<(), SinkError> {
        let batch = self.batch(count);
        if let Some(state) = files.prepare(&batch, self.now)? {
            self.saved = state;
        }
        files.write(&batch)?;
        self.saved = files.state();
        self.confirmed += count;
        self.notices.append(&mut files.notices);
        Ok(())
    }

    fn idle(&mut self, files: &mut Files) -> Result<(), SinkError> {
        while let Some(state) = files.idle(self.now)? {
            self.saved = state;
        }
        Ok(())
    }

    /// Every file with its content, by path below the directory.
    fn files(&self) -> BTreeMap<String, String> {
        walk(self.directory.path())
            .into_iter()
            .map(|path| {
                let name = path.strip_prefix(self.directory.path()).unwrap().to_str().unwrap().to_owned();
                (name, unpacked(&fs::read(&path).unwrap()))
            })
            .collect()
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    /// What a reader of `*.ndjson*` sees.
    fn numbers(&self) -> Vec<u32> {
        let files = self.files();
        let lines =
            files.iter().filter(|(name, _)| name.contains(".ndjson")).flat_map(|(_, text)| text.lines());
        let mut numbers: Vec<u32> = lines
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["number"].as_u64().unwrap())
            .map(|number| u32::try_from(number).unwrap())
            .collect();
        numbers.sort_unstable();
        numbers
    }

    fn assert_each_once(&self) {
        assert_eq!(self.numbers(), (0..self.confirmed).collect::<Vec<_>>());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn path(directory: &TempDir, template: &str, compression: Compression) -> PathTemplate {
    PathTemplate::parse(&format!("{}/{template}", directory.path().display()), compression).unwrap()
}

/// What `zcat` or `zstd -dc` would give of a whole file; they fail where a member is torn, and so does this.
fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    match bytes {
        [0x1f, 0x8b, ..] => MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap(),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(bytes).unwrap().read_to_string(&mut text).unwrap(),
        plain => return String::from_utf8(plain.to_vec()).unwrap(),
    };
    text
}

fn record(number: u32) -> Record {
    let day = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap() + TimeDelta::days(i64::from(number / 97));
    Record {
        bytes: 0..0,
        connection: 1,
        lane: Lane::Live,
        number: i64::from(number),
        uid: Uuid::nil(),
        kind: if number % 5 == 4 { Kind::Device } else { Kind::Event },
        time: 0,
        host: None,
        day,
        site: if number.is_multiple_of(3) { "acme".into() } else { "beta".into() },
        source: "audit".into(),
        organization: OrganizationId::none(),
        slug: Arc::from(""),
        device: None,
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// What of the files a disk may still have after the power went: names as safe as their directory's last
/// fsync, bytes as far as the file's, and of what came later any part, or zeros.
fn cut_power(model: &Model, dice: &mut impl FnMut(u64) -> u64) {
    let mut lengths: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let mut unsafe_names: BTreeSet<PathBuf> = BTreeSet::new();
    let mut renames: Vec<(PathBuf, PathBuf)> = Vec::new();
    for step in disk::steps() {
        match step {
            Step::Created(path) => {
                unsafe_names.insert(path.clone());
                lengths.insert(path, 0);
            }
            Step::Synced(path, length) => {
                lengths.insert(path, length);
            }
            Step::SyncedDir(directory) => {
                unsafe_names.retain(|path| path.parent() != Some(&directory));
                renames.retain(|(_, to)| to.parent() != Some(&directory));
            }
            Step::Renamed(from, to) => {
                if let Some(length) = lengths.remove(&from) {
                    lengths.insert(to.clone(), length);
                }
                renames.push((from, to));
            }
        }
    }
    for path in walk(model.directory.path()) {
        let length = path.metadata().unwrap().len();
        let safe = lengths.get(&path).copied().unwrap_or(length).min(length);
        let left = safe + dice(length - safe + 1);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(left).unwrap();
        if dice(3) == 0 {
            file.set_len(length).unwrap();
        }
        if unsafe_names.contains(&path) && dice(2) == 0 {
            fs::remove_file(&path).unwrap();
        }
    }
    for (from, to) in renames.iter().rev() {
        if to.exists() && !from.exists() && dice(2) == 0 {
            fs::rename(to, from).unwrap();
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    Deliver(u32),
    Wait(i64),
    /// Crash at the n-th fault point from now; with or without the power.
    Crash(u32, bool),
    Stop,
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (1u32..14).prop_map(Move::Deliver),
        2 => (0i64..5000).prop_map(Move::Wait),
        3 => (0u32..24, any::<bool>()).prop_map(|(points, power)| Move::Crash(points, power)),
        2 => Just(Move::Stop),
    ]
}

/// Runs the moves; returns the fault points at which the power went.
fn run(model: &mut Model, moves: &[Move], seed: u64) -> Vec<&'static str> {
    let mut seed = seed | 1;
    let mut dice = move |sides: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % sides
    };
    disk::restore_power();
    disk::steps();
    disk::met();
    let mut files = None;
    let mut power = false;
    for step in moves.iter().chain([&Move::Deliver(5), &Move::Deliver(5)]) {
        let mut work = |model: &mut Model| -> Result<(), SinkError> {
            let sink = match &mut files {
                Some(sink) => sink,
                none => none.insert(model.start()?),
            };
            match step {
                Move::Deliver(count) => model.deliver(sink, *count),
                Move::Wait(seconds) => {
                    model.now += TimeDelta::seconds(*seconds);
                    model.idle(sink)
                }
                Move::Crash(points, cut) => {
                    disk::cut_power_after(*points);
                    power = *cut;
                    Ok(())
                }
                Move::Stop => Ok(()),
            }
        };
        let mut result = work(model);
        while let Err(error) = result {
            assert!(error.to_string().contains("power cut"), "{error}");
            disk::restore_power();
            files = None;
            if power {
                cut_power(model, &mut dice);
            }
            result = model.start().map(|sink| files = Some(sink));
        }
        if matches!(step, Move::Stop) {
            files = None;
        }
    }
    disk::restore_power();
    let mut last = model.start().unwrap();
    model.idle(&mut last).unwrap();
    disk::met()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_or_power_cut_at_any_step_loses_and_doubles_nothing(
        moves in prop::collection::vec(any_move(), 1..40), seed in any::<u64>(), bounds in (1usize..4, 1usize..6),
    ) {
        for (template, compression) in [
            ("out/{site}/{source}-{date}.ndjson", Compression::None),
            ("{source}.ndjson", Compression::None),
            ("{site}.ndjson", Compression::Gzip),
            ("{site}/{source}-{date}.ndjson", Compression::Zstd),
        ] {
            let mut model = Model::packed(template, compression);
            (model.settings.most_open, model.settings.most_names) = bounds;
            run(&mut model, &moves, seed);
            model.assert_each_once();
            prop_assert!(model.notices.is_empty(), "{:?}", model.notices);
        }
    }
}

#[test]
fn every_fault_point_of_the_files_is_met_by_counting_through_one_schedule() {
    let mut met = BTreeSet::new();
    for points in 0..120 {
        let moves =
            [Move::Crash(points, points % 2 == 0), Move::Deliver(13), Move::Deliver(13), Move::Wait(4000)];
        let mut model = Model::new("out/{site}/{source}-{date}.ndjson");
        met.extend(run(&mut model, &moves, u64::from(points) + 1));
        model.assert_each_once();
    }
    let all = crate::durable::FAULT_POINTS.iter().filter(|point| !point.starts_with("sink.")).copied();
    assert_eq!(met, all.collect());
}

#[test]
fn a_file_is_part_until_closed_and_later_ones_are_numbered() {
    let mut model = Model::new("{site}/{source}-{date}.ndjson");
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 3).unwrap();
    assert_eq!(model.names(), ["acme/audit-2026-11-22.ndjson.part", "beta/audit-2026-11-22.ndjson.part"]);
    model.now += TimeDelta::seconds(3600);
    model.idle(&mut files).unwrap();
    assert_eq!(model.names(), ["acme/audit-2026-11-22.ndjson", "beta/audit-2026-11-22.ndjson"]);
    model.deliver(&mut files, 1).unwrap();
    model.now += TimeDelta::seconds(3600);
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 3).unwrap();
    let acme: Vec<String> = model.names().into_iter().filter(|name| name.starts_with("acme")).collect();
    assert_eq!(
        acme,
        [
            "acme/audit-2026-11-22.1.ndjson",
            "acme/audit-2026-11-22.2.ndjson.part",
            "acme/audit-2026-11-22.ndjson"
        ]
    );
    model.assert_each_once();
}

#[test]
fn a_file_closes_before_it_outgrows_its_size() {
    let mut model = Model::new("all.ndjson");
    let mut files = model.start().unwrap();
    for _ in 0..20 {
        model.deliver(&mut files, 7).unwrap();
    }
    let files = model.files();
    assert!(files.len() > 3);
    assert!(files.values().all(|text| text.len() <= 900), "{:?}", files.values().map(String::len));
    model.assert_each_once();
}

#[test]
fn packed_files_unpack_as_a_whole_after_every_commit_and_are_named_for_it() {
    for (compression, part, closed) in [
        (Compression::Gzip, "x.1.ndjson.gz.part", "x.ndjson.gz"),
        (Compression::Zstd, "x.1.ndjson.zst.part", "x.ndjson.zst"),
    ] {
        let mut model = Model::packed("x.ndjson", compression);
        let mut files = model.start().unwrap();
        for count in [1, 7, 3] {
            model.deliver(&mut files, count).unwrap();
            model.assert_each_once();
        }
        let bytes = fs::read(walk(model.directory.path()).first().unwrap()).unwrap();
        assert_ne!(bytes, model.files().into_values().next().unwrap().as_bytes());
        model.now += TimeDelta::hours(1);
        model.idle(&mut files).unwrap();
        model.deliver(&mut files, 2).unwrap();
        assert_eq!(model.names(), [part, closed]);
        model.assert_each_once();
    }
}

#[test]
fn a_packed_file_closes_by_what_was_written_and_not_by_what_it_unpacks_to() {
    let mut model = Model::packed("all.ndjson", Compression::Gzip);
    let mut files = model.start().unwrap();
    for _ in 0..30 {
        model.deliver(&mut files, 40).unwrap();
    }
    let paths = walk(model.directory.path());
    assert!(paths.len() > 2);
    assert!(paths.iter().all(|path| path.metadata().unwrap().len() <= 900), "{paths:?}");
    // Each of the batches would by itself be more than a file may have.
    let one = model.batch(40).buffer.len();
    assert!(one > 900 && model.files().values().any(|text| text.len() > 2 * one));
    model.assert_each_once();
}

#[test]
fn packed_batches_that_grow_by_it_are_still_cut_back_and_not_taken_for_a_surplus() {
    // Ten bytes become thirty: more than the usual bound of a batch, although the batch is not.
    for (compression, points) in [Compression::Gzip, Compression::Zstd]
        .map(|kind| (0..12).map(move |n| (kind, n)))
        .into_iter()
        .flatten()
    {
        let mut model = Model::packed("x.ndjson", compression);
        model.settings.batch = 1;
        let batch = |model: &Model| Batch {
            buffer: Bytes::from_static(b"{}\n"),
            records: [Record { bytes: 0..3, ..record(model.confirmed) }].into(),
            again: false,
        };
        let mut files = model.start().unwrap();
        disk::cut_power_after(points);
        let torn = files.prepare(&batch(&model), model.now).and_then(|state| {
            model.saved = state.unwrap();
            files.write(&batch(&model))
        });
        disk::restore_power();
        model.start().unwrap();
        assert!(model.notices.is_empty(), "{torn:?} {:?}", model.notices);
    }
}

#[test]
fn another_compression_begins_files_of_its_own_and_the_former_ones_close_as_they_are() {
    let mut model = Model::packed("x.ndjson", Compression::None);
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 3).unwrap();
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        model.settings.path = path(&model.directory, "x.ndjson", compression);
        files = model.start().unwrap();
        model.deliver(&mut files, 3).unwrap();
        model.assert_each_once();
    }
    model.now += TimeDelta::hours(1);
    model.idle(&mut files).unwrap();
    assert_eq!(model.names(), ["x.ndjson", "x.ndjson.gz", "x.ndjson.zst"]);
    model.assert_each_once();
    assert!(model.notices.is_empty(), "{:?}", model.notices);
}

#[test]
fn files_and_names_are_bounded_and_a_forgotten_name_goes_on_behind_its_closed_files() {
    for template in ["{site}-{kind}-{date}.ndjson", "{site}-{kind}.ndjson"] {
        let mut model = Model::new(template);
        (model.settings.most_open, model.settings.most_names) = (1, 1);
        let mut files = model.start().unwrap();
        for _ in 0..40 {
            model.deliver(&mut files, 1).unwrap();
            assert!(files.state.names.len() <= 2, "{:?}", files.state.names);
        }
        assert!(model.names().iter().filter(|name| name.ends_with(".part")).count() <= 2);
        assert!(model.names().contains(&"acme-device.1.ndjson".to_owned()) || template.contains("date"));
        drop(files);
        model.start().unwrap();
        assert!(model.notices.is_empty(), "{:?}", model.notices);
        model.assert_each_once();
    }
}

#[test]
fn files_can_be_read_by_owner_and_group_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut model = Model::new("{site}/x.ndjson");
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 1).unwrap();
    let mode = |name: &str| model.path(name).metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("acme/x.ndjson.part") & 0o137, 0);
    assert_eq!(mode("acme") & 0o027, 0);
}

#[test]
fn one_batch_too_many_is_cut_and_more_is_moved_aside_and_said() {
    let mut model = Model::new("x.ndjson");
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 3).unwrap();
    let part = model.path("x.ndjson.part");
    let kept = fs::read_to_string(&part).unwrap();

    let limit = usize::try_from(BATCH).unwrap();
    fs::write(&part, format!("{kept}{}", "y".repeat(limit))).unwrap();
    model.start().unwrap();
    assert_eq!(model.files(), BTreeMap::from([("x.ndjson.part".into(), kept.clone())]));
    assert!(model.notices.is_empty());

    let surplus = "z".repeat(limit + 1);
    fs::write(&part, format!("{kept}{surplus}")).unwrap();
    model.start().unwrap();
    let wanted = BTreeMap::from([("x.ndjson.part".into(), kept), ("x.surplus-1".into(), surplus)]);
    assert_eq!(model.files(), wanted);
    assert!(model.notices[0].contains("older state") && model.notices[0].contains("x.surplus-1"));
}

#[test]
fn a_batch_larger_than_usual_is_announced_so_that_it_can_be_cut_back() {
    let mut longest = 0;
    for points in 0..12 {
        let mut model = Model::new("x.ndjson");
        let mut files = model.start().unwrap();
        disk::cut_power_after(points);
        let result = model.deliver(&mut files, 100);
        disk::restore_power();
        if result.is_err() {
            longest =
                longest.max(model.path("x.ndjson.part").metadata().map_or(0, |metadata| metadata.len()));
        }
        model.start().unwrap();
        model.assert_each_once();
        assert!(model.notices.is_empty(), "{:?}", model.notices);
    }
    assert!(longest > 5 * BATCH);
}

#[test]
fn a_file_that_the_state_does_not_know_is_moved_aside_and_never_written_over() {
    let mut model = Model::new("x.ndjson");
    fs::write(model.path("x.ndjson"), "closed by somebody").unwrap();
    fs::write(model.path("x.ndjson.part"), "begun by somebody").unwrap();
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 3).unwrap();
    let files = model.files();
    assert_eq!(files["x.surplus-1"], "begun by somebody");
    assert_eq!(files["x.surplus-2"], "closed by somebody");
    model.assert_each_once();
    assert_eq!(model.notices.len(), 2);
}

#[test]
fn a_file_that_takes_the_closed_name_while_we_write_is_moved_aside() {
    let mut model = Model::new("x.ndjson");
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 3).unwrap();
    fs::write(model.path("x.ndjson"), "somebody's").unwrap();
    model.now += TimeDelta::hours(1);
    model.idle(&mut files).unwrap();
    assert_eq!(model.files()["x.surplus-1"], "somebody's");
    model.assert_each_once();
}

#[test]
fn an_older_state_restored_repeats_into_clean_files_and_keeps_the_former_ones_aside() {
    let mut model = Model::new("x.ndjson");
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 5).unwrap();
    let (backup, position) = (model.saved.clone(), model.confirmed);
    for _ in 0..8 {
        model.deliver(&mut files, 9).unwrap();
    }
    assert!(model.names().contains(&"x.2.ndjson.part".to_owned()), "{:?}", model.names());
    (model.saved, model.confirmed) = (backup, position);
    let mut files = model.start().unwrap();
    model.assert_each_once();
    assert!(model.notices.iter().all(|notice| notice.contains("older state")));
    assert_eq!(model.notices.len(), 4, "{:?}", model.notices);
    for _ in 0..8 {
        model.deliver(&mut files, 9).unwrap();
    }
    model.assert_each_once();
    assert_eq!(model.names().iter().filter(|name| name.contains("surplus")).count(), 3);
}

#[test]
fn a_file_shortened_or_deleted_holds_the_sink_until_it_is_back() {
    for found in [None, Some(10)] {
        let mut model = Model::new("x.ndjson");
        let mut files = model.start().unwrap();
        model.deliver(&mut files, 3).unwrap();
        let part = model.path("x.ndjson.part");
        let whole = fs::read(&part).unwrap();
        match found {
            None => fs::remove_file(&part).unwrap(),
            Some(length) => fs::write(&part, &whole[..length]).unwrap(),
        }
        let running = model.deliver(&mut files, 1).unwrap_err();
        let started = model.start().unwrap_err();
        for error in [running, started] {
            assert_eq!(error.remedy(), Remedy::Hold);
            assert!(error.to_string().contains("x.accept-loss"), "{error}");
        }
        fs::write(&part, whole).unwrap();
        let mut files = model.start().unwrap();
        model.deliver(&mut files, 3).unwrap();
        model.assert_each_once();
    }
}

#[test]
fn a_file_that_grew_or_was_replaced_is_looked_over_and_continued() {
    for grown in [true, false] {
        let mut model = Model::new("x.ndjson");
        let mut files = model.start().unwrap();
        model.deliver(&mut files, 3).unwrap();
        let part = model.path("x.ndjson.part");
        let whole = fs::read(&part).unwrap();
        if grown {
            fs::write(&part, [&whole[..], b"a line of somebody else\n"].concat()).unwrap();
        } else {
            fs::write(model.path("copy"), &whole).unwrap();
            fs::rename(model.path("copy"), &part).unwrap();
        }
        let error = model.deliver(&mut files, 1).unwrap_err();
        assert_eq!(error.remedy(), Remedy::Retry);
        assert!(!error.to_string().contains("lost"), "{error}");
        let mut files = model.start().unwrap();
        model.deliver(&mut files, 1).unwrap();
        model.assert_each_once();
    }
}

#[test]
fn at_the_operators_word_a_sink_goes_on_behind_what_was_lost() {
    for found in [None, Some(50)] {
        let mut model = Model::new("x.ndjson");
        let mut files = model.start().unwrap();
        model.deliver(&mut files, 3).unwrap();
        let part = model.path("x.ndjson.part");
        match found {
            None => fs::remove_file(&part).unwrap(),
            Some(length) => fs::write(&part, &fs::read(&part).unwrap()[..length]).unwrap(),
        }
        fs::write(model.path("x.accept-loss"), "").unwrap();
        model.start().unwrap();
        let mut files = model.start().unwrap();
        assert!(model.notices[0].contains("lost"));
        model.deliver(&mut files, 2).unwrap();
        let kept: Vec<u32> = if found.is_some() { vec![0, 3, 4] } else { vec![3, 4] };
        assert_eq!(model.numbers(), kept);
    }
}

#[test]
fn of_a_packed_file_that_lost_its_end_what_is_left_whole_is_kept_at_the_operators_word() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut model = Model::packed("x.ndjson", compression);
        let mut files = model.start().unwrap();
        model.deliver(&mut files, 3).unwrap();
        model.deliver(&mut files, 2).unwrap();
        let part = walk(model.directory.path()).remove(0);
        let length = part.metadata().unwrap().len();
        model.deliver(&mut files, 2).unwrap();
        fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(length - 5).unwrap();
        assert_eq!(model.start().unwrap_err().remedy(), Remedy::Hold);
        fs::write(model.path("x.accept-loss"), "").unwrap();
        model.start().unwrap();
        assert_eq!(model.numbers(), [0, 1, 2]);
    }
}

#[test]
fn a_closed_file_that_a_reader_took_at_once_is_no_loss() {
    let mut model = Model::new("x.ndjson");
    let mut files = model.start().unwrap();
    model.deliver(&mut files, 3).unwrap();
    model.now += TimeDelta::hours(1);
    model.saved = files.idle(model.now).unwrap().unwrap();
    files.idle(model.now).unwrap().unwrap();
    fs::remove_file(model.path("x.ndjson")).unwrap();
    let mut files = model.start().unwrap();
    assert!(model.notices[0].contains("taken by a reader"));
    model.deliver(&mut files, 3).unwrap();
    assert_eq!(model.numbers(), [3, 4, 5]);
}

#[test]
fn a_state_of_a_newer_version_or_of_no_version_is_refused() {
    let mut model = Model::new("x.ndjson");
    model.saved = SinkState(b"nonsense".to_vec());
    assert_eq!(model.start().unwrap_err().remedy(), Remedy::Hold);
    let mut model = Model::new("x.ndjson");
    let newer = rmp_serde::to_vec_named(&BTreeMap::from([("version", 9)])).unwrap();
    model.saved = SinkState(zstd::encode_all(newer.as_slice(), 1).unwrap());
    assert_eq!(model.start().unwrap_err().remedy(), Remedy::Hold);
}

#[tokio::test]
async fn the_sink_itself_refuses_to_write_before_it_has_recovered() {
    let model = Model::new("x.ndjson");
    let Settings { path, rotate_size, rotate_age, batch, .. } = model.settings.clone();
    let mut sink = FileSink::new(path, rotate_size, rotate_age, batch);
    let records = model.batch(3);
    sink.write(&records).await.unwrap_err();
    sink.recover(&SinkState::default()).await.unwrap();
    sink.prepare(&records, model.now).await.unwrap().unwrap();
    sink.write(&records).await.unwrap();
    sink.recover(&sink.state().unwrap()).await.unwrap();
    assert_eq!(model.numbers(), [0, 1, 2]);
}
