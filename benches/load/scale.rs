//! What many volumes cost, and what a volume of many files costs.

use crate::Result;
use crate::driver::{Driver, Place};
use crate::layout::{Layout, name, record};
use crate::measure::{Aim, Figure, median, percentile};
use crate::raw::Raw;

/// CreateVolume with `count` volumes present: the figure, and both medians (Berth's first).
pub(crate) async fn create(
    layout: &Layout,
    driver: &Driver,
    raw: &Raw,
    count: usize,
    short: bool,
) -> Result<(Figure, (f64, f64))> {
    let (rounds, each) = if short { (3, 50) } else { (9, 100) };
    let mut client = driver.connect().await?;
    let (mut berth, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (mut by_hand, mut by_driver, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..each {
            let (volume, text) = record(&name()?)?;
            let began = std::time::Instant::now();
            raw.create(&volume, &text)?;
            by_hand.push(began.elapsed());
            made.push(volume.name);
        }
        for _ in 0..each {
            let name = name()?;
            by_driver.push(client.create(&name).await?);
            made.push(name);
        }
        for name in made {
            client.delete(&name).await?;
        }
        layout.wait_for_purge()?;
        // The first round warms up.
        if round > 0 {
            bare.push(percentile(&by_hand, 50));
            berth.push(percentile(&by_driver, 50));
        }
    }
    let p50 = (median(berth), median(bare));
    let figure = Figure::of(format!("CreateVolume p50, {count} volumes"), "ms", p50.0).beside(p50.1);
    Ok((figure, p50))
}

/// The whole list of `count` volumes in pages of 1,000, and what the driver's memory is after it.
pub(crate) async fn list(place: &Place, raw: &Raw, count: usize, short: bool) -> Result<Vec<Figure>> {
    let place = Place { socket: place.socket.with_extension("list"), ..place.clone() };
    let driver = Driver::start(&place).await?;
    let mut client = driver.connect().await?;
    let (mut berth, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..if short { 3 } else { 9 } {
        let began = std::time::Instant::now();
        let read = raw.walk()?;
        bare.push(began.elapsed().as_secs_f64() * 1000.0);
        let (listed, took) = client.walk(1000).await?;
        berth.push(took.as_secs_f64() * 1000.0);
        if (read, listed) != (count, count) {
            return Err(format!("{count} volumes: {read} are read and {listed} are listed").into());
        }
    }
    let walk = Figure::of(format!("ListVolumes, {count} volumes in pages of 1000"), "ms", median(berth))
        .beside(median(bare))
        .aim(Aim::Times(2.0));
    let resident = Figure::of(format!("resident, {count} volumes listed"), "MiB", driver.resident()?)
        .aim(Aim::AtMost(10.0));
    Ok(vec![walk, resident])
}

/// DeleteVolume of a volume of 20,000 files, until the answer.
pub(crate) async fn delete(layout: &Layout, driver: &Driver, raw: &Raw, short: bool) -> Result<Figure> {
    const FILES: usize = 20_000;
    let mut client = driver.connect().await?;
    let (mut berth, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..if short { 3 } else { 7 } {
        let (mut volume, text) = record(&name()?)?;
        raw.create(&volume, &text)?;
        layout.put_files(&volume.name, FILES)?;
        volume.state = berth::volume::State::Deleting;
        let text = serde_json::to_vec_pretty(&volume)?;
        let began = std::time::Instant::now();
        raw.delete(&volume, &text)?;
        bare.push(began.elapsed().as_secs_f64() * 1000.0);
        let name = name()?;
        client.create(&name).await?;
        layout.put_files(&name, FILES)?;
        berth.push(client.delete(&name).await?.as_secs_f64() * 1000.0);
        // Both volumes' trees are purged by the driver.
        layout.wait_for_purge()?;
    }
    Ok(Figure::of("DeleteVolume of 20000 files, until the answer", "ms", median(berth))
        .beside(median(bare))
        .aim(Aim::Times(2.0)))
}
