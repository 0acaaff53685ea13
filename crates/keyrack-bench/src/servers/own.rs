//! Servers that this program is itself, in a process of their own: the frameworks with nothing to do.

use std::rc::Rc;

use super::{Place, Server, free_port};
use crate::Outcome;
use crate::child::{RunAs, Running};
use crate::load::{Address, Requests};

/// The name of hyper in the tables.
pub(crate) const HYPER: &str = "hyper, empty 204";

/// A route of axum that answers 204.
pub(crate) fn axum(requests: &Rc<Requests>) -> Outcome<Server> {
    start("axum, empty route", "axum", requests)
}

/// hyper with HTTP/1.1 and a service that answers 204.
pub(crate) fn hyper(requests: &Rc<Requests>) -> Outcome<Server> {
    start(HYPER, "hyper", requests)
}

fn start(name: &'static str, which: &str, requests: &Rc<Requests>) -> Outcome<Server> {
    let address = free_port()?;
    let program = std::env::current_exe()?.into_os_string();
    let command = [program, "serve".into(), which.into(), address.to_string().into()];
    let process = Running::start(&command, RunAs::Ourselves, &Place::log(which)?)?;
    Server::ready(name, Address::Tcp(address), Rc::clone(requests), 204, vec![process])
}
