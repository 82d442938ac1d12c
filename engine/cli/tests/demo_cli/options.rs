//! The effect of each option.

use std::fs;

use retpath_engine::memory::Backing;
use retpath_engine::stats::BUCKETS;
use serde_json::{Value, json};

use super::{good, number, run};
use retpath_support::kernel::Pool;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

#[test]
fn moves_the_smallest_memories() {
    for size in ["4K", "12K", "64K"] {
        good(&["--size", size]);
        good(&["--size", size, "--preempt"]);
    }
    good(&["--size", "64K", "--page-size", "64K"]);
}

#[test]
fn compares_every_page_and_places_each_once() {
    let value = good(&["--size", "16M"]);
    let pages = &value["pages"];
    assert_eq!(pages["compared"], 4096);
    let placed = number(&pages["demand"]) + number(&pages["sweep"]);
    assert_eq!(placed + number(&pages["before_switch"]), 4096);
    assert!(number(&pages["zero"]) > 0 && number(&pages["source_zero"]) > 0);
    assert_eq!(value["cuts"]["happened"], 0);
    assert_eq!(
        value["cuts"]["pauses"],
        json!({ "source": 0, "destination": 0 })
    );
    assert!(number(&value["time_ns"]) > 0);
    assert!(value["gigabytes_per_second"].as_f64().expect("a number") > 0.0);
    let job = json!({
        "size": 16 << 20,
        "blocks": [{ "name": "pc.ram", "size": 16 << 20 }],
        "page_size": 4096,
        "threads": 4,
        "channel": "unix",
        "preempt": false,
        "cuts": 0,
        "bandwidth": 0,
        "seed": 1,
    });
    assert_eq!(value["job"], job);
}

#[test]
fn reports_fault_latencies_in_parts() {
    // With requested pages only, every fault is timed in all parts.
    let value = good(&["--size", "4M", "--bandwidth", "1", "--no-predict"]);
    let demand = number(&value["pages"]["demand"]);
    assert_eq!(demand, 1024 - 16, "all but what came before the switch");
    assert_eq!(value["requests"]["sent"], demand);
    for part in ["total", "request", "source", "transfer", "placement"] {
        let times = &value["latency"][part];
        assert_eq!(times["count"], demand, "{part}");
        let quantiles = ["p50_ns", "p99_ns", "p999_ns", "max_ns"].map(|q| number(&times[q]));
        assert!(quantiles.is_sorted() && quantiles[0] > 0, "{part}: {times}");
        let buckets = times["buckets"].as_array().expect("a list");
        assert_eq!(buckets.len(), BUCKETS);
        assert_eq!(buckets.iter().map(number).sum::<u64>(), demand, "{part}");
    }
}

#[test]
fn limits_the_sweep_but_not_requests() {
    // Zero pages from before the switch fault, too; their waiters must be woken without a request.
    for seed in ["1", "2", "3"] {
        let value = good(&[
            "--size",
            "2M",
            "--bandwidth",
            "1",
            "--preempt",
            "--no-predict",
            "--seed",
            seed,
        ]);
        assert_eq!(value["pages"]["sweep"], 0);
        assert_eq!(value["pages"]["demand"], 512 - 16);
    }
    let value = good(&["--size", "4M", "--bandwidth", "20M", "--threads", "0"]);
    let least = 1_000_000_000 * 3 / 20;
    assert!(
        number(&value["time_ns"]) >= least / 2,
        "a limit was ignored"
    );
    assert_eq!(value["pages"]["demand"], 0);
    assert_eq!(value["pages"]["touched"], 0);
}

#[test]
fn derives_content_from_the_seed() {
    let zeros = |seed| {
        let value = good(&["--size", "16M", "--seed", seed]);
        number(&value["pages"]["source_zero"])
    };
    assert_eq!(zeros("7"), zeros("7"));
    assert_ne!(zeros("7"), zeros("8"));
}

fn sizes(value: &Value) -> Vec<u64> {
    let blocks = value["job"]["blocks"].as_array().expect("a list");
    blocks.iter().map(|block| number(&block["size"])).collect()
}

#[test]
fn moves_several_blocks_of_different_sizes() {
    let value = good(&["--size", "16M", "--blocks", "5"]);
    let mut sizes = sizes(&value);
    assert_eq!(sizes.iter().sum::<u64>(), 16 << 20);
    sizes.dedup();
    assert_eq!(sizes.len(), 5);
}

#[test]
fn moves_memory_over_tcp_and_with_a_preempt_channel() {
    for args in [
        &["--channel", "tcp"][..],
        &["--preempt"],
        &["--channel", "tcp", "--preempt", "--threads", "16"],
    ] {
        good(&[&["--size", "16M"], args].concat());
    }
}

#[test]
fn moves_host_pages_of_many_target_pages() {
    let value = good(&["--size", "16M", "--page-size", "64K", "--preempt"]);
    let pages = &value["pages"];
    assert_eq!(pages["compared"], 4096);
    let placed = number(&pages["demand"]) + number(&pages["sweep"]);
    assert_eq!(placed * 16 + number(&pages["before_switch"]), 4096);
}

#[test]
fn recovers_from_every_requested_cut() {
    for (number, args) in [
        &[][..],
        &["--preempt"],
        &["--channel", "tcp"],
        &["--preempt", "--blocks", "3", "--page-size", "64K"],
    ]
    .into_iter()
    .enumerate()
    {
        let seed = number.to_string();
        let all = [&["--size", "16M", "--cuts", "20", "--seed", &seed], args].concat();
        let value = good(&all);
        let cuts = &value["cuts"];
        assert_eq!(cuts["happened"], 20, "{all:?}");
        // A cut inside a recovery is a pause more, but no resume.
        for side in ["source", "destination"] {
            assert!(
                super::number(&cuts["pauses"][side]) >= 20,
                "{all:?}: {cuts}"
            );
            let resumes = super::number(&cuts["resumes"][side]);
            assert!((1..=20).contains(&resumes), "{all:?}: {cuts}");
        }
    }
}

#[test]
fn moves_huge_pages_through_cuts() {
    let Some(_pool) = Pool::reserve(Backing::Huge2M, 16) else {
        return;
    };
    let huge = ["--size", "32M", "--page-size", "2M"];
    let value = good(&huge);
    let pages = &value["pages"];
    assert_eq!(number(&pages["demand"]) + number(&pages["sweep"]), 16);
    assert_eq!(pages["compared"], 8192);
    assert_eq!(value["job"]["page_size"], 2 << 20);
    good(&[&huge[..], &["--preempt", "--cuts", "8", "--blocks", "5"]].concat());
}

#[test]
fn names_the_command_that_reserves_huge_pages() {
    // Holds the lock on the pool, so that no other test changes it.
    let _pool = Pool::reserve(Backing::Huge2M, 1);
    let free = fs::read_to_string(format!("{POOL}/free_hugepages")).unwrap_or_default();
    let Ok(free) = free.trim().parse::<u64>() else {
        return; // no huge pages of that size
    };
    let size = format!("{}M", 2 * (free + 1));
    let ran = run(&["--size", &size, "--page-size", "2M"]);
    assert_eq!(ran.status.code(), Some(1), "{}", ran.err);
    let command = format!("| sudo tee {POOL}/nr_hugepages`");
    assert!(ran.err.contains(&command), "{}", ran.err);
    assert!(ran.err.contains("retpath doctor"), "{}", ran.err);
}

#[test]
fn refuses_more_memory_than_there_is() {
    let ran = run(&["--size", "64T"]);
    assert_eq!(ran.status.code(), Some(1));
    assert_eq!(ran.out, "");
    assert!(ran.err.contains("choose a smaller --size"), "{}", ran.err);
}

#[test]
fn never_panics_on_any_size() {
    let huge = [
        1 << 44,
        1 << 62,
        1 << 63,
        u64::MAX - 4095,
        u64::MAX - (1 << 30) + 1,
    ];
    for size in huge.map(|size: u64| size.to_string()) {
        for page in ["4K", "64K", "2M", "1G"] {
            for blocks in ["1", "64"] {
                let cuts = ["0", "1000"][usize::from(blocks == "64")];
                let args = [
                    "--size",
                    &size,
                    "--page-size",
                    page,
                    "--blocks",
                    blocks,
                    "--cuts",
                    cuts,
                ];
                let ran = run(&args);
                assert!(
                    matches!(ran.status.code(), Some(1 | 2)),
                    "{args:?}: {}",
                    ran.err
                );
                assert!(!ran.err.contains("panicked"), "{args:?}: {}", ran.err);
            }
        }
    }
}

#[test]
fn prints_a_table_for_people() {
    let ran = run(&["--size", "16M", "--cuts", "2"]);
    assert_eq!((ran.status.code(), &ran.err[..]), (Some(0), ""));
    for part in [
        "pages compared             4096   of 4 KiB: 0 wrong, 0 missing, 0 placed twice\n",
        "  by demand ",
        "  by sweep ",
        "\ncuts                          2   ",
        " GB/s\n",
        "\nfault latency         count       p50       p99     p99.9       max\n",
        "\n  request ",
        "\n  source ",
        "\n  transfer ",
        "\n  placement ",
        " µs ",
    ] {
        assert!(ran.out.contains(part), "{part:?} is missing in {}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}'), "escapes in a pipe");
}

#[test]
fn refuses_wrong_usage_with_code_2() {
    for args in [
        &["--size", "x"][..],
        &["--size", "0"],
        &["--size", "4097"],
        &["--size", "3M", "--page-size", "2M"],
        &["--page-size", "8K"],
        &["--blocks", "0"],
        &["--blocks", "65"],
        &["--size", "8K", "--blocks", "2"],
        &["--size", "28M", "--page-size", "2M", "--blocks", "5"],
        &["--size", "1M", "--cuts", "1"],
        &["--size", "16M", "--cuts", "1000"],
        &["--channel", "pigeon"],
        &["--threads", "-1"],
        &["--format", "xml"],
        &["now"],
    ] {
        let ran = run(args);
        assert_eq!(ran.status.code(), Some(2), "{args:?}: {}", ran.err);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{args:?}");
    }
}
