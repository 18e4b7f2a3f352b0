//! k2d: the Kubernetes API over a Docker engine. The API server, its controllers and the kubelet are `d2k_kubeapi`; here are
//! the engine that they run Pods on (`engine`), the containers of other people as Pods (`foreign`), and the command line.

pub mod cli;
pub mod engine;
mod foreign;
pub mod health;
pub mod inside;
pub mod kubeconfig;
pub mod net;
mod node_images;
mod recover;
pub mod serve;
mod services;
mod unread_settings;
