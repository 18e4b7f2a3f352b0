//! The table against the generated types: a field that Docker's specification has and the table
//! lacks fails here, so that the table stays whole when the types are updated.

use bollard_stubs::models;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde_json::json;

use super::{Treatment, check, leads_on, markdown, table};

/// Learns the field names of a type from what it asks a deserializer for.
struct Names<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for Names<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("names only"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend_from_slice(fields);
        Err(Self::Error::custom("names only"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn missing<T: DeserializeOwned>(prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    let _ = T::deserialize(Names(&mut names));
    assert!(!names.is_empty(), "{prefix} has no fields");
    let paths = names.iter().map(|name| format!("{prefix}{name}"));
    paths.filter(|path| !leads_on(path) && !table().any(|field| field.path == path)).collect()
}

#[test]
fn every_field_of_the_specification_has_a_row() {
    let mounts = "HostConfig.Mounts[].";
    let endpoints = "NetworkingConfig.EndpointsConfig.*.";
    let lacking = [
        missing::<models::ContainerCreateBody>(""),
        missing::<models::HostConfig>("HostConfig."),
        missing::<models::NetworkingConfig>("NetworkingConfig."),
        missing::<models::EndpointSettings>(endpoints),
        missing::<models::EndpointIpamConfig>(&format!("{endpoints}IPAMConfig.")),
        missing::<models::Mount>(mounts),
        missing::<models::MountVolumeOptions>(&format!("{mounts}VolumeOptions.")),
        missing::<models::MountVolumeOptionsDriverConfig>(&format!("{mounts}VolumeOptions.DriverConfig.")),
        missing::<models::MountTmpfsOptions>(&format!("{mounts}TmpfsOptions.")),
        missing::<models::RestartPolicy>("HostConfig.RestartPolicy."),
        missing::<models::HostConfigLogConfig>("HostConfig.LogConfig."),
        missing::<models::PortBinding>("HostConfig.PortBindings.*[]."),
    ]
    .concat();
    assert!(lacking.is_empty(), "no row in the table for {lacking:?}");
}

#[test]
fn rows_are_unique_and_render() {
    let mut paths: Vec<_> = table().map(|field| field.path).collect();
    let count = paths.len();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), count);
    assert_eq!(markdown().lines().count(), count + 2);
}

#[test]
fn a_warned_field_is_named_and_a_refused_one_refuses() {
    assert!(table().any(|field| matches!(field.treatment, Treatment::Refused(_))));
    let set =
        json!({"HostConfig": {"CpusetCpus": "0", "Odd": 1, "Mounts": [{"Type": "volume", "Odd": true}]}});
    let warnings = check(&set).unwrap();
    for path in ["HostConfig.CpusetCpus", "HostConfig.Odd", "HostConfig.Mounts.Odd"] {
        assert!(warnings.iter().any(|warning| warning.starts_with(path)), "{path} not in {warnings:?}");
    }
    let refused = json!({"HostConfig": {"Mounts": [{"Type": "image", "ImageOptions": {"Subpath": "x"}}]}});
    assert!(check(&refused).is_err());
}

#[test]
fn values_that_ask_for_nothing_give_no_warning() {
    let quiet = json!({
        "HostConfig": {
            "MemorySwappiness": -1, "PidsLimit": -1, "ConsoleSize": [24, 80], "Runtime": "runc", "CgroupnsMode": "private",
            "LogConfig": {"Type": "json-file", "Config": {}}, "OomKillDisable": false, "Memory": 8_000_000, "MemorySwap": 8_000_000,
            "PortBindings": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}], "81/tcp": null}, "Binds": null
        },
        "NetworkingConfig": null, "Whatever": null
    });
    assert_eq!(check(&quiet), Ok(Vec::new()));
}
