//! An engine that runs nothing, for tests of what the kubelet makes of Pods.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::SystemTime;

use d2k_engine::{
    Engine, Exec, Exit, Feature, Image, Limits, Login, NodeFacts, Pull, Result, Sandbox, Session, Start,
    Stream, Trouble, Usage,
};
use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// The engine. Its containers run until they get a signal, and answer nothing.
#[derive(Default)]
pub struct Idle {
    /// By the IDs of the containers: cancelled at their end.
    ended: Mutex<HashMap<String, CancellationToken>>,
}

impl Idle {
    fn end(&self, id: &str) {
        if let Some(ended) = self.ended.lock().get(id) {
            ended.cancel();
        }
    }
}

fn none<T: Send + 'static>() -> BoxFuture<'static, Result<T>> {
    Box::pin(ready(Err(Trouble::new("NotFound", "nothing runs here"))))
}

fn done<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T>> {
    Box::pin(ready(Ok(value)))
}

impl Engine for Idle {
    fn node(&self) -> NodeFacts {
        NodeFacts {
            runtime: "idle://1".to_owned(),
            cpus: 1000,
            memory: 1 << 40,
            storage: 1 << 40,
            architecture: "amd64".to_owned(),
            ..NodeFacts::default()
        }
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    fn image<'a>(&'a self, _: &'a str, _: Pull, _: &'a [Login]) -> BoxFuture<'a, Result<Image>> {
        done(Image { entrypoint: vec!["/program".to_owned()], ..Image::default() })
    }

    fn create_sandbox(&self, _: Sandbox) -> BoxFuture<'_, Result<IpAddr>> {
        done(Ipv4Addr::new(10, 88, 0, 9).into())
    }

    fn remove_sandbox<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<()>> {
        done(())
    }

    fn create(&self, start: Start) -> BoxFuture<'_, Result<String>> {
        self.ended.lock().insert(start.id.clone(), CancellationToken::new());
        done(start.id)
    }

    fn start<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<()>> {
        done(())
    }

    fn wait<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Exit>> {
        let ended = self.ended.lock().get(id).cloned().unwrap_or_default();
        Box::pin(async move {
            ended.cancelled().await;
            Ok(Exit { code: 143, oom_killed: false, at: SystemTime::now() })
        })
    }

    fn signal<'a>(&'a self, id: &'a str, _: i32) -> BoxFuture<'a, Result<()>> {
        self.end(id);
        done(())
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        self.end(id);
        done(())
    }

    fn attach<'a>(&'a self, _: &'a str, _: bool) -> BoxFuture<'a, Result<Session>> {
        none()
    }

    fn exec<'a>(&'a self, _: &'a str, _: Exec) -> BoxFuture<'a, Result<Session>> {
        none()
    }

    fn limit<'a>(&'a self, _: &'a str, _: Limits) -> BoxFuture<'a, Result<()>> {
        done(())
    }

    fn usage<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Usage>> {
        done(Usage::default())
    }

    fn connect<'a>(&'a self, _: &'a str, _: u16) -> BoxFuture<'a, Result<Box<dyn Stream>>> {
        none()
    }

    /// Paths of the machine are left alone.
    fn check_host_path<'a>(&'a self, _: &'a Path, _: &'a str) -> Option<BoxFuture<'a, Result<()>>> {
        Some(done(()))
    }
}
