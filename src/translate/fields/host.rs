//! The fields of `HostConfig` that are not resource limits.

use serde_json::Value;

use d2k_common::masked_paths::{MASKED, READ_ONLY};

use super::{Field, Treatment, Unset, mapped, noop, refused, warned, warned_or};

fn usual_paths(_: &Value, value: &Value) -> bool {
    let usual = |path: &Value| {
        path.as_str().is_some_and(|path| {
            MASKED.contains(&path) || READ_ONLY.contains(&path) || path.contains("/thermal_throttle")
        })
    };
    value.as_array().is_some_and(|paths| paths.iter().all(usual))
}

const fn paths(path: &'static str) -> Field {
    Field {
        path,
        treatment: Treatment::Warned(
            "the runtime hides and protects Docker's usual paths, and no list of one's own; an empty list (systempaths=unconfined) becomes procMount Unmasked",
        ),
        unset: Unset::When(usual_paths),
    }
}

pub(super) const FIELDS: &[Field] = &[
    mapped(
        "HostConfig.Binds",
        "named volumes: PersistentVolumeClaims; paths: `hostPath` where the `volumes` policy allows it (embedded: all), else refused; the Docker socket: `DOCKER_HOST` instead",
    ),
    noop("HostConfig.ContainerIDFile", "the client writes it"),
    warned_or(
        "HostConfig.LogConfig.Type",
        &["json-file", "local"],
        "logs go where the cluster keeps them, and docker logs reads them there",
    ),
    warned("HostConfig.LogConfig.Config", "logs are kept and rotated by the kubelet"),
    mapped(
        "HostConfig.NetworkMode",
        "the names that resolve in the Pod; `host`: `hostNetwork`; `none`: warning; `container:…`: refused",
    ),
    warned_or(
        "HostConfig.PortBindings.*[].HostIp",
        &["0.0.0.0", "::"],
        "a Service cannot be tied to one address of a host; the port is published on all",
    ),
    mapped("HostConfig.PortBindings.*[].HostPort", "a LoadBalancer Service, and a port of d2k itself"),
    mapped("HostConfig.RestartPolicy.Name", "Deployment or Job, and the Pod's `restartPolicy`"),
    mapped("HostConfig.RestartPolicy.MaximumRetryCount", "the Job's `backoffLimit`"),
    mapped("HostConfig.AutoRemove", "a Job that is removed with its volumes when it has ended"),
    mapped(
        "HostConfig.VolumeDriver",
        "`local`, `d2k` or none; others are refused, choose a storage class instead",
    ),
    mapped("HostConfig.VolumesFrom", "the other container's claims and binds are mounted"),
    mapped(
        "HostConfig.Mounts[].Type",
        "`volume`: PersistentVolumeClaim; `bind`: `hostPath` where the `volumes` policy allows it; `tmpfs`: `emptyDir` in memory; others: refused",
    ),
    mapped("HostConfig.Mounts[].Source", "name of the volume, or path of the machine"),
    mapped("HostConfig.Mounts[].Target", "`mountPath`"),
    mapped("HostConfig.Mounts[].ReadOnly", "`readOnly` of the mount"),
    noop("HostConfig.Mounts[].Consistency", "for Docker Desktop only; Docker ignores it on Linux"),
    mapped(
        "HostConfig.Mounts[].BindOptions.Propagation",
        "`mountPropagation`: `rslave`: HostToContainer; `rshared`: Bidirectional, for --privileged on a real cluster; else refused",
    ),
    mapped("HostConfig.Mounts[].BindOptions.CreateMountpoint", "a missing source is made, as with `-v`"),
    mapped("HostConfig.Mounts[].BindOptions.NonRecursive", "a `hostPath` is recursive; a warning"),
    mapped("HostConfig.Mounts[].BindOptions.ReadOnlyNonRecursive", "`recursiveReadOnly` is not set"),
    mapped(
        "HostConfig.Mounts[].BindOptions.ReadOnlyForceRecursive",
        "`recursiveReadOnly: Enabled`; else IfPossible",
    ),
    mapped(
        "HostConfig.Mounts[].VolumeOptions.NoCopy",
        "Kubernetes never copies the image's files; a warning where they are needed for sure",
    ),
    mapped("HostConfig.Mounts[].VolumeOptions.Labels", "labels of the volume"),
    mapped("HostConfig.Mounts[].VolumeOptions.DriverConfig.Name", "as HostConfig.VolumeDriver"),
    mapped(
        "HostConfig.Mounts[].VolumeOptions.DriverConfig.Options",
        "`size`, `storageClass`, `accessMode` of the claim",
    ),
    mapped("HostConfig.Mounts[].VolumeOptions.Subpath", "`subPath` of the mount"),
    refused(
        "HostConfig.Mounts[].ImageOptions",
        "copy the files into a volume with a container of that image",
    ),
    mapped("HostConfig.Mounts[].TmpfsOptions.SizeBytes", "`sizeLimit`"),
    mapped("HostConfig.Mounts[].TmpfsOptions.Mode", "always 1777; another one gives a warning"),
    mapped("HostConfig.Mounts[].TmpfsOptions.Options", "an `emptyDir` has none; a warning names them"),
    refused("HostConfig.Mounts[].ClusterOptions", "use type=volume with the option accessMode=rwx"),
    noop("HostConfig.ConsoleSize", "the client sets the size of its terminal when it attaches"),
    mapped("HostConfig.Annotations", "annotations of the Pod; illegal keys give a warning"),
    mapped("HostConfig.CapAdd", "`capabilities.add`"),
    mapped("HostConfig.CapDrop", "`capabilities.drop`"),
    warned_or(
        "HostConfig.CgroupnsMode",
        &["private"],
        "a container always has a cgroup namespace of its own; --privileged sees the node's",
    ),
    mapped(
        "HostConfig.Dns",
        "`dnsConfig.nameservers` with `dnsPolicy: None`; on a user-defined network after the cluster's own",
    ),
    mapped("HostConfig.DnsOptions", "`dnsConfig.options`"),
    mapped("HostConfig.DnsSearch", "`dnsConfig.searches`"),
    mapped("HostConfig.ExtraHosts", "`hostAliases`; `host-gateway` gives a warning"),
    mapped("HostConfig.GroupAdd", "`supplementalGroups`; names give a warning"),
    mapped("HostConfig.IpcMode", "`host`: `hostIPC`; `none`: warning; `container:…`: refused"),
    warned("HostConfig.Cgroup", "Kubernetes chooses the cgroup"),
    mapped("HostConfig.Links", "names that resolve in this container's Pod alone, and Docker's variables"),
    warned("HostConfig.OomScoreAdj", "the kubelet sets it from the memory request and limit"),
    mapped("HostConfig.PidMode", "`host`: `hostPID`; `container:…`: refused"),
    mapped("HostConfig.Privileged", "`privileged`"),
    mapped("HostConfig.PublishAllPorts", "a NodePort Service for the exposed ports of image and request"),
    mapped("HostConfig.ReadonlyRootfs", "`readOnlyRootFilesystem`"),
    mapped(
        "HostConfig.SecurityOpt",
        "no-new-privileges, seccomp (unconfined, builtin), apparmor, label, systempaths; a seccomp profile of one's own gives a warning; none: the node's default",
    ),
    warned(
        "HostConfig.StorageOpt",
        "a container's own files have no size limit here; put data on a volume with --opt size=",
    ),
    mapped("HostConfig.Tmpfs", "`emptyDir` in memory with `sizeLimit`; other options give a warning"),
    mapped("HostConfig.UTSMode", "`host` comes with the node's network, alone it gives a warning"),
    mapped("HostConfig.UsernsMode", "`host` is the default; `private`: `hostUsers: false`"),
    mapped("HostConfig.ShmSize", "`emptyDir` in memory at `/dev/shm`; 64 MiB is what every container has"),
    mapped("HostConfig.Sysctls", "`sysctls` of the Pod; the cluster decides which it allows"),
    warned_or("HostConfig.Runtime", &["runc", "io.containerd.runc.v2"], "the node's runtime is used"),
    noop("HostConfig.Isolation", "`default` is all that Linux has"),
    mapped("HostConfig.Init", "the helper stays process 1; without the helper: warning"),
    paths("HostConfig.MaskedPaths"),
    paths("HostConfig.ReadonlyPaths"),
];
