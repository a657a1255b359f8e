//! Whose directory is opened, and which are refused.

use super::*;
use crate::storage::log::model::ModelDisk;
use crate::storage::log::{Log, Options};

const CLUSTER: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Opening is refused with a text that holds `parts`.
fn assert_refused(path: &Path, parts: &[&str]) {
    let text = DataDir::open(path, 1).unwrap_err().0;
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    assert!(text.contains(&path.display().to_string()), "{text}");
}

#[test]
fn a_new_directory_gets_an_identity_that_stays() {
    let temp = temp();
    let path = temp.path().join("a/b");
    let dir = DataDir::open(&path, 1).unwrap();
    let first = dir.identity();
    assert_eq!(
        (first.node_id, &first.cluster_id, first.node_uuid.len()),
        (1, &None, 32)
    );
    assert_eq!(
        (dir.log_dir(), dir.state_dir()),
        (path.join("log"), path.join("state"))
    );
    dir.set_cluster_id(CLUSTER, false).unwrap();
    drop(dir);
    let again = DataDir::open(&path, 1).unwrap().identity();
    let wanted = Identity {
        cluster_id: Some(CLUSTER.to_owned()),
        ..first
    };
    assert_eq!(again, wanted);
    let other = DataDir::open(&temp.path().join("c"), 1).unwrap().identity();
    assert_ne!(other.node_uuid, again.node_uuid);
}

#[test]
fn a_cluster_id_is_set_once_unless_replaced_on_purpose() {
    let temp = temp();
    let dir = DataDir::open(temp.path(), 1).unwrap();
    for bad in [
        "",
        "xyz",
        &CLUSTER[1..],
        "0123456789abcdef0123456789abcde\n",
    ] {
        assert!(dir.set_cluster_id(bad, true).is_err());
    }
    dir.set_cluster_id(CLUSTER, false).unwrap();
    dir.set_cluster_id(CLUSTER, false).unwrap();
    let refused = dir.set_cluster_id(OTHER, false).unwrap_err().0;
    assert!(
        refused.contains(CLUSTER) && refused.contains(OTHER),
        "{refused}"
    );
    assert_eq!(dir.identity().cluster_id.as_deref(), Some(CLUSTER));
    dir.set_cluster_id(OTHER, true).unwrap();
    assert_eq!(dir.identity().cluster_id.as_deref(), Some(OTHER));
    drop(dir);
    assert_eq!(
        DataDir::inspect(temp.path())
            .unwrap()
            .identity()
            .cluster_id
            .as_deref(),
        Some(OTHER)
    );
}

#[test]
fn a_directory_in_use_is_refused() {
    let temp = temp();
    let dir = DataDir::open(temp.path(), 1).unwrap();
    assert_refused(temp.path(), &["in use by another process"]);
    assert!(
        DataDir::inspect(temp.path())
            .unwrap_err()
            .0
            .contains("in use")
    );
    drop(dir);
    let inspected = DataDir::inspect(temp.path()).unwrap();
    assert_refused(temp.path(), &["in use by another process"]);
    drop(inspected);
    DataDir::open(temp.path(), 1).unwrap();
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let temp = temp();
    drop(DataDir::open(temp.path(), 7).unwrap());
    assert_refused(temp.path(), &["belongs to node 7, not to node 1"]);
    assert_eq!(DataDir::inspect(temp.path()).unwrap().identity().node_id, 7);
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_alone() {
    let temp = temp();
    fs::write(temp.path().join("letter.txt"), "dear").unwrap();
    assert_refused(temp.path(), &["letter.txt", "not a data directory"]);
    assert_eq!(
        fs::read_dir(temp.path()).unwrap().count(),
        1,
        "nothing was put there"
    );
    assert!(DataDir::inspect(temp.path()).is_err());
}

#[test]
fn what_a_file_system_puts_in_its_root_is_no_obstacle() {
    let temp = temp();
    fs::create_dir(temp.path().join("lost+found")).unwrap();
    DataDir::open(temp.path(), 1).unwrap();
}

#[test]
fn inspecting_makes_and_changes_nothing() {
    let temp = temp();
    let absent = temp.path().join("absent");
    assert!(
        DataDir::inspect(&absent)
            .unwrap_err()
            .0
            .contains("there is no directory")
    );
    assert!(!absent.exists());
    assert!(
        DataDir::inspect(temp.path())
            .unwrap_err()
            .0
            .contains("holds nothing of a node")
    );
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_lost_identity_is_never_made_anew() {
    let temp = temp();
    let dir = DataDir::open(temp.path(), 1).unwrap();
    drop(
        Log::open(
            &dir.log_dir(),
            &dir.identity().node_uuid,
            Options::default(),
        )
        .unwrap(),
    );
    drop(dir);
    fs::remove_file(temp.path().join("identity")).unwrap();
    assert_refused(
        temp.path(),
        &["\"log\"", "lost its identity", "quorate node replace"],
    );
    assert!(!temp.path().join("identity").exists());
}

#[test]
fn a_lost_log_is_never_made_anew() {
    let temp = temp();
    let dir = DataDir::open(temp.path(), 1).unwrap();
    let log_dir = dir.log_dir();
    drop(Log::open(&log_dir, &dir.identity().node_uuid, Options::default()).unwrap());
    drop(dir);
    DataDir::open(temp.path(), 1).unwrap();
    for name in ["witness", "0000000001.log"] {
        fs::remove_file(log_dir.join(name)).unwrap();
    }
    assert_refused(temp.path(), &["is gone", "quorate node replace"]);
    fs::remove_dir(&log_dir).unwrap();
    assert_refused(temp.path(), &["is gone", "quorate node replace"]);
}

#[test]
fn an_unfinished_creation_is_finished() {
    let temp = temp();
    drop(DataDir::open(temp.path(), 1).unwrap());
    fs::rename(
        temp.path().join("identity"),
        temp.path().join("identity.new"),
    )
    .unwrap();
    fs::remove_file(temp.path().join("boot")).unwrap();
    let dir = DataDir::open(temp.path(), 2).unwrap();
    assert_eq!(dir.identity().node_id, 2);
    Log::open(
        &dir.log_dir(),
        &dir.identity().node_uuid,
        Options::default(),
    )
    .unwrap();
}

#[test]
fn a_recovered_directory_says_from_which_cluster_and_keeps_to_the_new_one() {
    let temp = temp();
    let dir = DataDir::open(temp.path(), 1).unwrap();
    let at = LogId {
        term: 3,
        node: 1,
        index: 70,
    };
    assert!(dir.recover(at).unwrap_err().0.contains("no cluster"));
    dir.set_cluster_id(CLUSTER, false).unwrap();
    let made = dir.recover(at).unwrap();
    let identity = dir.identity();
    assert_eq!(identity.cluster_id, Some(made));
    let recovered = Recovered {
        from: CLUSTER.to_owned(),
        at,
    };
    assert_eq!(identity.recovered, Some(recovered));
    assert!(dir.set_cluster_id(CLUSTER, false).is_err());
    drop(dir);
    let again = DataDir::open(temp.path(), 1).unwrap().identity();
    assert_eq!(again, identity);
    let text = fs::read_to_string(temp.path().join("identity")).unwrap();
    assert!(
        text.contains("format 2"),
        "an older version must not run it: {text}"
    );
}

#[test]
fn each_start_is_counted_and_what_the_cluster_refused_is_not_started_again() {
    let temp = temp();
    for number in 1..4 {
        let dir = DataDir::open(temp.path(), 1).unwrap();
        assert_eq!(dir.boot().number, number);
    }
    let dir = DataDir::open(temp.path(), 1).unwrap();
    dir.refuse("it is a copy").unwrap();
    drop(dir);
    assert_refused(temp.path(), &["refused by its cluster", "it is a copy"]);
    assert_eq!(DataDir::inspect(temp.path()).unwrap().boot().number, 0);
    fs::write(temp.path().join("boot"), "").unwrap();
    fs::remove_file(temp.path().join("refused")).unwrap();
    assert_refused(temp.path(), &["boot", "damaged", "quorate node replace"]);
}

#[test]
fn every_flipped_bit_and_every_cut_of_the_identity_is_refused() {
    let temp = temp();
    let dir = DataDir::open(temp.path(), 1).unwrap();
    dir.set_cluster_id(CLUSTER, false).unwrap();
    dir.recover(LogId {
        term: 3,
        node: 1,
        index: 70,
    })
    .unwrap();
    drop(dir);
    let name = temp.path().join("identity");
    let intact = fs::read(&name).unwrap();
    for bit in 0..intact.len() * 8 {
        let mut bytes = intact.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&name, bytes).unwrap();
        assert_refused(temp.path(), &["identity file", "quorate node replace"]);
    }
    for length in 0..intact.len() {
        fs::write(&name, &intact[..length]).unwrap();
        assert_refused(temp.path(), &["identity file"]);
    }
    fs::write(&name, [&intact[..], b"\n"].concat()).unwrap();
    assert_refused(temp.path(), &["damaged"]);
    fs::write(&name, &intact).unwrap();
    DataDir::open(temp.path(), 1).unwrap();
}

#[test]
fn a_newer_format_is_refused_and_named() {
    let temp = temp();
    drop(DataDir::open(temp.path(), 1).unwrap());
    let name = temp.path().join("identity");
    let text = fs::read_to_string(&name).unwrap();
    fs::write(&name, text.replace("format 1", "format 3")).unwrap();
    assert_refused(temp.path(), &["its format is 3", "newer version"]);
}

#[test]
fn a_power_cut_while_the_identity_changes_leaves_the_old_or_the_new_one() {
    let old = Identity {
        cluster_id: None,
        node_id: 1,
        node_uuid: "u".to_owned(),
        recovered: None,
    };
    let new = Identity {
        cluster_id: Some(CLUSTER.to_owned()),
        ..old.clone()
    };
    for point in 0..=5 {
        let disk = ModelDisk::new();
        write(&disk, &old).unwrap();
        disk.stop_at(disk.operations() + point);
        let written = write(&disk, &new).is_ok();
        assert_eq!(written, point == 5);
        let uncertain = disk.uncertain();
        let total: usize = uncertain.iter().map(|one| one.outcomes).product();
        for mut pick in 0..total {
            let outcomes: Vec<usize> = uncertain
                .iter()
                .map(|one| {
                    let outcome = pick % one.outcomes;
                    pick /= one.outcomes;
                    outcome
                })
                .collect();
            let found = read(Path::new(""), &disk.after_power_cut(&uncertain, &outcomes)).unwrap();
            assert!(
                found == new || !written && found == old,
                "point {point}: {found:?}"
            );
        }
    }
}
