//! What users of bollard, the SDK for Rust, do, each asserted against what a Docker engine answers. Prints one
//! line a behaviour. bollard asks for one API version without negotiating, and fails on any field of another type.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Debug;
use std::io::Read;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerUpdateBody, EndpointSettings, HostConfig,
    NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest, PortBinding, VolumeCreateRequest,
};
use bollard::query_parameters as query;
use futures_util::{Stream, StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn same<T: PartialEq + Debug>(got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("{got:?}, not {wanted:?}").into()) }
}

fn has(text: &str, word: &str) -> Outcome {
    if text.contains(word) { Ok(()) } else { Err(format!("{word:?} is not in {text:?}").into()) }
}

fn refused<T: Debug>(result: Result<T, bollard::errors::Error>, status: u16, word: &str) -> Outcome {
    match result {
        Err(bollard::errors::Error::DockerResponseServerError { status_code, message }) => {
            same(status_code, status)?;
            has(&message, word)
        }
        other => Err(format!("not refused with {status}: {other:?}").into()),
    }
}

/// An engine and the label of this run.
struct Bench {
    docker: Docker,
    run: String,
}

impl Bench {
    fn named(&self, name: &str) -> String {
        format!("{name}-{}", self.run)
    }

    fn mine(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("d2k.clients={}", self.run)])])
    }

    fn body(&self, command: &[&str]) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some("busybox".into()),
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            labels: Some(HashMap::from([("d2k.clients".to_owned(), self.run.clone())])),
            ..ContainerCreateBody::default()
        }
    }

    async fn create(&self, name: Option<String>, body: ContainerCreateBody) -> Outcome<String> {
        let options = query::CreateContainerOptions { name, ..Default::default() };
        Ok(self.docker.create_container(Some(options), body).await?.id)
    }

    async fn start(&self, body: ContainerCreateBody) -> Outcome<String> {
        let id = self.create(None, body).await?;
        self.docker.start_container(&id, None).await?;
        Ok(id)
    }

    async fn idle(&self) -> Outcome<String> {
        self.start(self.body(&["sleep", "1000"])).await
    }

    async fn script(&self, text: &str) -> Outcome<String> {
        self.start(self.body(&["sh", "-c", text])).await
    }

    /// The exit code: bollard makes an error of all but 0.
    async fn end(&self, id: &str, condition: &str) -> Outcome<i64> {
        let options = query::WaitContainerOptions { condition: condition.to_owned() };
        match self.docker.wait_container(id, Some(options)).next().await {
            Some(Ok(ended)) => Ok(ended.status_code),
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => Ok(code),
            other => Err(format!("{other:?}").into()),
        }
    }

    async fn exec(
        &self,
        id: &str,
        options: CreateExecOptions<&str>,
        input: &[u8],
    ) -> Outcome<(String, String, Option<i64>)> {
        let streams = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            attach_stdin: Some(!input.is_empty()),
            ..options
        };
        let made = self.docker.create_exec(id, streams).await?.id;
        let StartExecResults::Attached { output, input: mut stdin } =
            self.docker.start_exec(&made, None::<StartExecOptions>).await?
        else {
            return Err("detached".into());
        };
        stdin.write_all(input).await?;
        stdin.shutdown().await?;
        let (out, err) = apart(output).await?;
        Ok((out, err, self.docker.inspect_exec(&made).await?.exit_code))
    }

    async fn logs(&self, id: &str, options: query::LogsOptions) -> Outcome<(String, String)> {
        apart(Box::pin(self.docker.logs(id, Some(options)))).await
    }

    async fn pull(&self, image: &str) -> Outcome<Vec<String>> {
        let options = query::CreateImageOptions {
            from_image: Some(image.to_owned()),
            tag: Some("latest".to_owned()),
            ..Default::default()
        };
        let lines: Vec<_> = self.docker.create_image(Some(options), None, None).try_collect().await?;
        Ok(lines.into_iter().filter_map(|line| line.status).collect())
    }

    async fn clean(&self) {
        let options =
            query::ListContainersOptions { all: true, filters: Some(self.mine()), ..Default::default() };
        for container in self.docker.list_containers(Some(options)).await.unwrap_or_default() {
            let options = query::RemoveContainerOptions { force: true, v: true, ..Default::default() };
            let _ = self.docker.remove_container(&container.id.unwrap_or_default(), Some(options)).await;
        }
    }
}

async fn apart(
    mut stream: Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send + '_>>,
) -> Outcome<(String, String)> {
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(chunk) = stream.try_next().await? {
        let to = if matches!(chunk, LogOutput::StdErr { .. }) { &mut err } else { &mut out };
        to.push_str(&String::from_utf8_lossy(&chunk.into_bytes()));
    }
    Ok((out, err))
}

fn both() -> query::LogsOptions {
    query::LogsOptions { stdout: true, stderr: true, ..Default::default() }
}

fn archive(name: &str, content: &str) -> Outcome<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content.as_bytes())?;
    Ok(tar.into_inner()?)
}

fn seconds() -> Outcome<i32> {
    Ok(i32::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?)
}

async fn system(b: &Bench) -> Outcome {
    same(b.docker.ping().await?.as_str(), "OK")?;
    same(b.docker.version().await?.os.as_deref(), Some("linux"))?;
    same(b.docker.info().await?.mem_total.is_some_and(|bytes| bytes > 0), true)?;
    b.docker.df(None).await?;
    Ok(())
}

async fn swarm(b: &Bench) -> Outcome {
    refused(b.docker.list_services(None).await, 503, "This node is not a swarm manager")?;
    refused(b.docker.inspect_swarm().await, 503, "This node is not a swarm manager")
}

async fn attach(b: &Bench) -> Outcome {
    let body = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..b.body(&["sh", "-c", "cat; echo err >&2"])
    };
    let id = b.create(None, body).await?;
    let options = query::AttachContainerOptions {
        stdin: true,
        stdout: true,
        stderr: true,
        stream: true,
        ..Default::default()
    };
    let mut attached = b.docker.attach_container(&id, Some(options)).await?;
    b.docker.start_container(&id, None).await?;
    attached.input.write_all(b"through\n").await?;
    attached.input.shutdown().await?;
    same(apart(attached.output).await?, ("through\n".to_owned(), "err\n".to_owned()))
}

async fn exec(b: &Bench) -> Outcome {
    let id = b.idle().await?;
    let options = CreateExecOptions {
        cmd: Some(vec!["sh", "-c", "echo $A $(pwd) $(id -u); echo err >&2; exit 3"]),
        env: Some(vec!["A=x"]),
        working_dir: Some("/tmp"),
        user: Some("1000"),
        ..Default::default()
    };
    same(b.exec(&id, options, b"").await?, ("x /tmp 1000\n".into(), "err\n".into(), Some(3)))?;
    let count = CreateExecOptions { cmd: Some(vec!["wc", "-c"]), ..Default::default() };
    same(b.exec(&id, count, b"12345").await?, ("5\n".into(), String::new(), Some(0)))
}

async fn terminal(b: &Bench) -> Outcome {
    let id = b.idle().await?;
    let command = vec!["sh", "-c", "sleep 1; stty size"];
    let options = CreateExecOptions {
        cmd: Some(command),
        tty: Some(true),
        attach_stdout: Some(true),
        ..Default::default()
    };
    let made = b.docker.create_exec(&id, options).await?.id;
    let StartExecResults::Attached { output, .. } =
        b.docker.start_exec(&made, None::<StartExecOptions>).await?
    else {
        return Err("detached".into());
    };
    b.docker.resize_exec(&made, query::ResizeExecOptions { h: 31, w: 97 }).await?;
    has(&apart(output).await?.0, "31 97\r\n")
}

async fn logs(b: &Bench) -> Outcome {
    let id = b.script("echo 1; echo 2; sleep 2.2; echo 3").await?;
    same(b.logs(&id, query::LogsOptions { follow: true, ..both() }).await?.0.as_str(), "1\n2\n3\n")?;
    same(b.logs(&id, query::LogsOptions { tail: "1".into(), ..both() }).await?.0.as_str(), "3\n")?;
    let stamped = b.logs(&id, query::LogsOptions { timestamps: true, tail: "1".into(), ..both() }).await?.0;
    has(&stamped, "Z 3\n")?;
    same(
        b.logs(&id, query::LogsOptions { since: seconds()? - 1000, ..both() }).await?.0.as_str(),
        "1\n2\n3\n",
    )
}

async fn streams(b: &Bench) -> Outcome {
    let id = b.script("echo out; echo err >&2").await?;
    b.end(&id, "not-running").await?;
    same(b.logs(&id, both()).await?, ("out\n".into(), "err\n".into()))
}

async fn archives(b: &Bench) -> Outcome {
    let id = b.create(None, b.body(&["sh", "-c", "cat /etc/early; sleep 1000"])).await?;
    let to =
        |path: &str| Some(query::UploadToContainerOptions { path: path.to_owned(), ..Default::default() });
    b.docker
        .upload_to_container(&id, to("/etc"), bollard::body_full(archive("early", "in time\n")?.into()))
        .await?;
    b.docker.start_container(&id, None).await?;
    b.docker
        .upload_to_container(&id, to("/tmp"), bollard::body_full(archive("late", "later")?.into()))
        .await?;
    let from = Some(query::DownloadFromContainerOptions { path: "/tmp/late".into() });
    let bytes: Vec<_> = b.docker.download_from_container(&id, from).try_collect().await?;
    let bytes = bytes.concat();
    let mut content = String::new();
    let mut unpacked = tar::Archive::new(bytes.as_slice());
    unpacked.entries()?.next().ok_or("an empty archive")??.read_to_string(&mut content)?;
    same(content.as_str(), "later")?;
    let early = CreateExecOptions { cmd: Some(vec!["cat", "/etc/early"]), ..Default::default() };
    same(b.exec(&id, early, b"").await?.0.as_str(), "in time\n")
}

async fn life(b: &Bench) -> Outcome {
    let id = b.create(Some(b.named("life")), b.body(&["sleep", "1000"])).await?;
    b.docker.start_container(&id, None).await?;
    b.docker
        .restart_container(&id, Some(query::RestartContainerOptions { t: Some(1), ..Default::default() }))
        .await?;
    let name = b.named("renamed");
    b.docker.rename_container(&id, query::RenameContainerOptions { name: name.clone() }).await?;
    let update =
        ContainerUpdateBody { memory: Some(96 << 20), memory_swap: Some(192 << 20), ..Default::default() };
    b.docker.update_container(&id, update).await?;
    let shown = b.docker.inspect_container(&name, None).await?;
    same(shown.host_config.and_then(|host| host.memory), Some(96 << 20))?;
    refused(b.docker.remove_container(&id, None).await, 409, "container is running")?;
    b.docker.kill_container(&id, None).await?;
    same(b.end(&id, "not-running").await?, 137)?;
    refused(b.docker.kill_container(&id, None).await, 409, "is not running")
}

async fn removal(b: &Bench) -> Outcome {
    let host = HostConfig { auto_remove: Some(true), ..Default::default() };
    let body = ContainerCreateBody { host_config: Some(host), ..b.body(&["sh", "-c", "sleep 1; exit 6"]) };
    let id = b.start(body).await?;
    same(b.end(&id, "removed").await?, 6)?;
    refused(b.docker.inspect_container(&id, None).await, 404, "No such container")
}

async fn figures(b: &Bench) -> Outcome {
    let id = b.idle().await?;
    has(&format!("{:?}", b.docker.top_processes(&id, None).await?.processes), "1000")?;
    b.docker.container_changes(&id).await?;
    let stream = query::StatsOptions { stream: true, ..Default::default() };
    let samples: Vec<_> = b.docker.stats(&id, Some(stream)).take(2).try_collect().await?;
    same(samples.len(), 2)?;
    let options = query::StatsOptions { stream: false, one_shot: true };
    let once = b.docker.stats(&id, Some(options)).next().await.ok_or("no sample")??;
    same(once.id, Some(id))
}

async fn commit(b: &Bench) -> Outcome {
    let options = query::CommitContainerOptions { container: Some(b.idle().await?), ..Default::default() };
    refused(b.docker.commit_container(options, ContainerConfig::default()).await, 501, "commit")
}

async fn ports(b: &Bench) -> Outcome {
    let port = "80/tcp".to_owned();
    let binding = PortBinding { host_ip: None, host_port: Some("0".into()) };
    let host = HostConfig {
        port_bindings: Some(HashMap::from([(port.clone(), Some(vec![binding]))])),
        ..Default::default()
    };
    let body = ContainerCreateBody {
        image: Some("nginx".into()),
        cmd: None,
        exposed_ports: Some(vec![port.clone()]),
        host_config: Some(host),
        ..b.body(&[])
    };
    let id = b.start(body).await?;
    let shown =
        b.docker.inspect_container(&id, None).await?.network_settings.and_then(|network| network.ports);
    let bindings = shown.and_then(|mut ports| ports.remove(&port)).flatten().unwrap_or_default();
    let published = bindings.into_iter().next().and_then(|binding| binding.host_port).ok_or("no port")?;
    let engine = std::env::var("DOCKER_HOST")?;
    let address = engine.trim_start_matches("tcp://").split(':').next().unwrap_or_default().to_owned();
    let mut page = tokio::net::TcpStream::connect(format!("{address}:{published}")).await?;
    page.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    page.read_to_string(&mut answer).await?;
    has(&answer, "Welcome to nginx")
}

async fn events(b: &Bench) -> Outcome {
    let since = seconds()? - 1;
    let body = b.body(&["true"]);
    let id = b.start(body).await?;
    b.end(&id, "not-running").await?;
    b.docker.remove_container(&id, None).await?;
    let filters = HashMap::from([("container".to_owned(), vec![id])]);
    let options = query::EventsOptions {
        since: Some(since.to_string()),
        until: Some((seconds()? + 1).to_string()),
        filters: Some(filters),
    };
    let seen: Vec<_> = b.docker.events(Some(options)).try_collect().await?;
    let actions: Vec<String> = seen.into_iter().filter_map(|event| event.action).collect();
    same(actions, ["create", "start", "die", "destroy"].map(str::to_owned).to_vec())
}

async fn images(b: &Bench) -> Outcome {
    has(&b.pull("busybox").await?.join("\n"), "Status: ")?;
    let id = b.docker.inspect_image("busybox").await?.id;
    let tag = query::TagImageOptions { repo: Some(b.named("tagged")), tag: Some("1".into()) };
    b.docker.tag_image("busybox", Some(tag)).await?;
    let name = format!("{}:1", b.named("tagged"));
    same(b.docker.inspect_image(&name).await?.id, id)?;
    b.docker.remove_image(&name, None::<query::RemoveImageOptions>, None).await?;
    refused(b.docker.inspect_image(&name).await, 404, "No such image")?;
    same(b.docker.list_images(None::<query::ListImagesOptions>).await?.is_empty(), false)?;
    same(b.docker.image_history("busybox").await?.is_empty(), false)
}

async fn volumes(b: &Bench) -> Outcome {
    let name = b.named("data");
    let labels = Some(HashMap::from([("d2k.clients".to_owned(), b.run.clone())]));
    b.docker
        .create_volume(VolumeCreateRequest { name: Some(name.clone()), labels, ..Default::default() })
        .await?;
    let host = HostConfig { binds: Some(vec![format!("{name}:/data")]), ..Default::default() };
    let command = ["sh", "-c", "echo kept > /data/f && cat /data/f"];
    let id = b.start(ContainerCreateBody { host_config: Some(host), ..b.body(&command) }).await?;
    same(b.end(&id, "not-running").await?, 0)?;
    refused(
        b.docker.remove_volume(&name, None::<query::RemoveVolumeOptions>).await,
        409,
        "volume is in use",
    )?;
    b.clean().await;
    let listed = b.docker.list_volumes(Some(query::ListVolumesOptions { filters: Some(b.mine()) })).await?;
    same(listed.volumes.map(|volumes| volumes.len()), Some(1))?;
    Ok(b.docker.remove_volume(&name, None::<query::RemoveVolumeOptions>).await?)
}

async fn networks(b: &Bench) -> Outcome {
    let name = b.named("net");
    let network =
        b.docker.create_network(NetworkCreateRequest { name: name.clone(), ..Default::default() }).await?.id;
    let id = b.idle().await?;
    let endpoint = EndpointSettings { aliases: Some(vec!["friend".into()]), ..Default::default() };
    let join = NetworkConnectRequest { container: id.clone(), endpoint_config: Some(endpoint) };
    b.docker.connect_network(&network, join).await?;
    let members = b.docker.inspect_network(&network, None).await?.containers.unwrap_or_default();
    same(members.contains_key(&id), true)?;
    refused(b.docker.remove_network(&network).await, 403, "active endpoints")?;
    let leave = NetworkDisconnectRequest { container: id, ..Default::default() };
    b.docker.disconnect_network(&network, leave).await?;
    b.docker.remove_network(&network).await?;
    refused(b.docker.inspect_network(&network, None).await, 404, "not found")
}

async fn prune(b: &Bench) -> Outcome {
    let id = b.script("true").await?;
    b.end(&id, "not-running").await?;
    let options = query::PruneContainersOptions { filters: Some(b.mine()) };
    same(b.docker.prune_containers(Some(options)).await?.containers_deleted, Some(vec![id]))
}

macro_rules! behaviours {
    ($bench:ident, $($name:literal => $body:ident,)*) => {
        [$(($name, Box::pin($body(&$bench)) as Pin<Box<dyn Future<Output = Outcome> + Send + '_>>),)*]
    };
}

#[tokio::main]
async fn main() -> Outcome {
    let docker = Docker::connect_with_defaults()?;
    let run = format!("{:x}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() & 0xffff_ffff);
    let bench = Bench { docker, run };
    println!("# bollard {}", env!("BOLLARD"));
    bench.pull("busybox").await?;
    bench.pull("nginx").await?;
    let all = behaviours![bench,
        "ping, version, info and disk usage" => system,
        "swarm is refused with 503" => swarm,
        "attach before the start, input and its end, streams apart" => attach,
        "exec with output, exit code, user, environment, directory and input" => exec,
        "exec with a terminal of a size" => terminal,
        "logs whole, by tail, by time, with timestamps, and followed" => logs,
        "logs tell standard output and error apart" => streams,
        "archives both ways, and before the start" => archives,
        "start, restart, kill, rename, update" => life,
        "wait for the removal of what removes itself" => removal,
        "top, changes and stats" => figures,
        "commit is refused with what to do instead" => commit,
        "ports that answer at once" => ports,
        "events from the past, by filter" => events,
        "images pulled with progress, listed, inspected, tagged, removed" => images,
        "volumes made, listed, used, removed" => volumes,
        "networks made, joined, left, removed" => networks,
        "prune by label" => prune,
    ];
    let wanted = std::env::args().nth(1).unwrap_or_default().replace("only=", "");
    let mut failed = false;
    for (name, body) in all.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        match tokio::time::timeout(Duration::from_secs(90), body).await {
            Ok(Ok(())) => println!("ok - {name}"),
            Ok(Err(error)) => {
                failed = true;
                println!("not ok - {name}: {}", error.to_string().replace('\n', " "));
            }
            Err(_) => {
                failed = true;
                println!("not ok - {name}: not within 90 s");
            }
        }
        bench.clean().await;
    }
    std::process::exit(i32::from(failed));
}
