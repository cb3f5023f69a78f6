//! All the drivers that a process can have. This is a process of its own: other tests would find no room.

use gpu_driver_sim::{SimConfig, SimDriver, SimError};

#[test]
fn as_many_drivers_as_there_are_slots_and_each_can_be_had_again() {
    let config = || SimConfig { devices: 0, ..SimConfig::default() };
    let mut all = Vec::new();
    let error = loop {
        match SimDriver::new(config()) {
            Ok(sim) => all.push(sim),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SimError::TooManyDrivers(_)), "{error}");
    assert_eq!(all.len(), 63);
    drop(all);
    for _ in 0..200 {
        SimDriver::new(config()).unwrap();
    }
}
