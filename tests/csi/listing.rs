//! ListVolumes: every volume once, page by page, whatever comes and goes meanwhile.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use berth::csi::*;
use prost::Message as _;

use crate::rig::*;

fn page(max_entries: i32, starting_token: &str) -> ListVolumesRequest {
    ListVolumesRequest { max_entries, starting_token: starting_token.into() }
}

fn ids(answer: &ListVolumesResponse) -> Vec<String> {
    answer.entries.iter().map(|entry| entry.volume.as_ref().unwrap().volume_id.clone()).collect()
}

/// A driver with the roots `one` and `two`.
fn two_roots() -> Rig {
    let mut rig = Rig::without_driver();
    let roots = ["one", "two"].map(|name| {
        let path = rig.scratch().join(name);
        fs::create_dir(&path).unwrap();
        rig.mount_tmpfs(&path, "size=64m");
        format!("{name}={}", path.display())
    });
    rig.set_roots(&roots);
    rig.start();
    rig
}

#[test]
fn a_driver_without_volumes_lists_none() {
    let mut rig = two_roots();
    for max_entries in [0, 1, i32::MAX] {
        let answer = rig.list(page(max_entries, "")).ok();
        assert_eq!(answer, ListVolumesResponse::default());
    }
}

#[test]
fn an_entry_is_the_volume_as_it_was_created() {
    let mut rig = Rig::new();
    let request = create("a").bytes(3 << 20).parameter("subDir", "shop/a");
    let created = rig.create(request).ok().volume;
    let answer = rig.list(page(0, "")).ok();
    assert_eq!(answer.entries.len(), 1);
    assert_eq!(answer.entries[0].volume, created);
    assert_eq!(answer.next_token, "");
}

#[test]
fn pages_hold_no_more_than_is_asked_and_go_on_over_all_roots() {
    let mut rig = two_roots();
    let mut all = Vec::new();
    for i in 0..7 {
        for root in ["two", "one"] {
            all.push(rig.create(create(&format!("{root}-{i}")).parameter("root", root)).id());
        }
    }
    all.sort();
    for size in 1..=15 {
        let (mut found, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let answer = rig.list(page(size, &token)).ok();
            assert!(answer.entries.len() <= usize::try_from(size).unwrap());
            found.extend(ids(&answer));
            pages += 1;
            assert!(pages <= 14, "it goes in circles");
            token = answer.next_token;
            if token.is_empty() {
                break;
            }
            assert!(token.len() <= 128, "{token}");
        }
        found.sort();
        assert_eq!(found, all, "pages of {size}");
        assert_eq!(pages, 14_usize.div_ceil(usize::try_from(size).unwrap()), "no page is empty");
    }
}

#[test]
fn a_number_of_entries_that_is_negative_is_refused() {
    let mut rig = Rig::new();
    for max_entries in [-1, i32::MIN] {
        rig.list(page(max_entries, "")).fails(Code::InvalidArgument, "max_entries");
    }
}

#[test]
fn a_token_that_no_answer_holds_is_aborted_so_that_the_list_begins_anew() {
    let mut rig = Rig::new();
    rig.create(create("a")).ok();
    let (long, huge) = (format!("after:main/{}", "n".repeat(47)), "after:main/n".repeat(100_000));
    for token in [
        "0",
        "1",
        "a",
        "node-1/main/a",
        "after",
        "after:",
        "after:main",
        "after:main/",
        "after:ssd/a",
        "AFTER:main/a",
        "after:main/..",
        "after:main/../a",
        "after:main/a/b",
        "after:main/a b",
        "after:main/-a",
        "after:main/a\0",
        "after:/a",
        " after:main/a",
        "after:main/=a",
        "\n",
        "🐙",
        &long,
        &huge,
    ] {
        rig.list(page(0, token)).fails(Code::Aborted, "starting_token");
    }
}

#[test]
fn a_token_outlives_the_volume_that_it_names() {
    let mut rig = Rig::new();
    for name in ["a", "b", "c", "d"] {
        rig.create(create(name)).ok();
    }
    let first = rig.list(page(2, "")).ok();
    assert_eq!(ids(&first), ["node-1/main/a", "node-1/main/b"]);
    for gone in ["b", "a", "c"] {
        rig.delete(&format!("node-1/main/{gone}")).ok();
        let rest = ids(&rig.list(page(2, &first.next_token)).ok());
        assert_eq!(rest.last().unwrap(), "node-1/main/d", "{gone} is gone");
        assert!(!rest.contains(&format!("node-1/main/{gone}")));
    }
    rig.restart();
    assert_eq!(ids(&rig.list(page(2, &first.next_token)).ok()), ["node-1/main/d"]);
    rig.delete("node-1/main/d").ok();
    assert_eq!(rig.list(page(2, &first.next_token)).ok(), ListVolumesResponse::default());
}

/// Numbers that look random and are the same for the same seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    fn name(&mut self, number: usize) -> String {
        match self.below(4) {
            0 => format!("pvc-{:08x}-{number}", self.below(usize::MAX)),
            1 => format!("{} {number}", self.below(100)),
            2 => format!("{}{number}", "long".repeat(20)),
            _ => format!("{}{number}", ["a", "Z", "0", "~", ".", "ä"][self.below(6)]),
        }
    }
}

#[test]
fn whoever_is_there_from_the_first_page_to_the_last_is_listed_once_whoever_comes_and_goes() {
    for seed in 1..=12_u64 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
        let mut rig = two_roots();
        let mut number = 0;
        // Each id and whether the volume stays.
        let mut present: BTreeMap<String, bool> = BTreeMap::new();
        let mut add = |rig: &mut Rig, random: &mut Random, present: &mut BTreeMap<String, bool>, stays| {
            number += 1;
            let root = ["one", "two"][random.below(2)];
            let id = rig.create(create(&random.name(number)).parameter("root", root)).id();
            assert_eq!(present.insert(id, stays), None);
        };
        for _ in 0..20 + random.below(30) {
            let stays = random.below(2) == 0;
            add(&mut rig, &mut random, &mut present, stays);
        }
        let mut ever: HashSet<String> = present.keys().cloned().collect();
        let (mut listed, mut token) = (Vec::new(), String::new());
        loop {
            let answer = rig.list(page(i32::try_from(1 + random.below(6)).unwrap(), &token)).ok();
            assert!(ids(&answer).iter().all(|id| !listed.contains(id)), "seed {seed}: twice: {answer:?}");
            listed.extend(ids(&answer));
            token = answer.next_token;
            if token.is_empty() {
                break;
            }
            for _ in 0..random.below(4) {
                add(&mut rig, &mut random, &mut present, false);
            }
            ever.extend(present.keys().cloned());
            let mut going: Vec<_> =
                present.iter().filter(|(_, stays)| !**stays).map(|(id, _)| id.clone()).collect();
            // The last one of the page, which the token names, goes as often as it may.
            let last = listed.last().unwrap();
            if present.get(last) == Some(&false) {
                rig.delete(last).ok();
                present.remove(last);
                going.retain(|id| id != last);
            }
            for _ in 0..random.below(4).min(going.len()) {
                let id = going.swap_remove(random.below(going.len()));
                rig.delete(&id).ok();
                present.remove(&id);
            }
        }
        for id in present.iter().filter(|(_, stays)| **stays).map(|(id, _)| id) {
            assert!(listed.contains(id), "seed {seed}: {id} is missing");
        }
        assert!(listed.iter().all(|id| ever.contains(id)), "seed {seed}: {listed:?}");
        let now: Vec<String> = rig.list_ids(0);
        assert_eq!(now.into_iter().collect::<HashSet<_>>(), present.into_keys().collect(), "seed {seed}");
    }
}

/// Writes records as the one of `model` is, under other names: what a driver that ran for long has left.
fn multiply(root: &Path, model: &str, names: impl Iterator<Item = String>) {
    let volumes = root.join(".berth/volumes");
    let incarnation = fs::read_dir(volumes.join(model)).unwrap().next().unwrap().unwrap().file_name();
    let record = fs::read_to_string(volumes.join(model).join(&incarnation).join("1.json")).unwrap();
    let quoted = format!("{model:?}");
    assert_eq!(record.matches(&quoted).count(), 2, "its name and its path: {record}");
    for name in names {
        let directory = volumes.join(&name).join(&incarnation);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("1.json"), record.replace(&quoted, &format!("{name:?}"))).unwrap();
    }
}

#[test]
fn a_list_of_tens_of_thousands_comes_in_answers_below_four_mebibytes_though_one_was_asked_for() {
    const COUNT: usize = 20_000;
    let mut rig = Rig::without_driver();
    let root = rig.root();
    rig.mount_tmpfs(&root, "size=512m");
    rig.set_roots(&[format!("main={}", root.display())]);
    // The longest that there is: an answer has room for few of these.
    rig.set_node_id(&"n".repeat(253));
    rig.start();
    let model = "v".repeat(46);
    rig.create(create(&model)).ok();
    multiply(&root, &model, (1..COUNT).map(|i| format!("{i:046}")));
    for max_entries in [0, i32::MAX] {
        let (mut seen, mut token, mut answers) = (HashSet::new(), String::new(), 0);
        // On a slow machine an answer may be given before it is full, so that it is given in time.
        loop {
            let answer = rig.list(page(max_entries, &token)).ok();
            assert!(answer.encoded_len() < 4 << 20, "{} bytes", answer.encoded_len());
            assert!(ids(&answer).into_iter().all(|id| seen.insert(id)), "listed twice");
            answers += 1;
            token = answer.next_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen.len(), COUNT);
        assert!(answers > 1);
    }
}

#[test]
fn a_list_that_takes_long_comes_in_several_answers_each_in_time() {
    let mut rig = Rig::new();
    rig.create(create("v")).ok();
    multiply(&rig.root(), "v", (1..120).map(|i| format!("v{i}")));
    // A disk on which it takes 20 ms to open a file or a directory: some ten seconds for all.
    let _slow = rig.inject("openat2", "openat2:delay_enter=20000");
    let (mut seen, mut token, mut answers) = (HashSet::new(), String::new(), 0);
    loop {
        let began = Instant::now();
        let answer = rig.list(page(0, &token)).ok();
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert!(ids(&answer).into_iter().all(|id| seen.insert(id)), "listed twice");
        answers += 1;
        token = answer.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 120);
    assert!(answers > 1);
}
