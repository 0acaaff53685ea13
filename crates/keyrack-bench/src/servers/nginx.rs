//! nginx with nothing to do: the mark that everything is measured against.

use std::fs;
use std::rc::Rc;

use super::{Place, Server, free_port, words};
use crate::Outcome;
use crate::child::{RunAs, Running};
use crate::load::{Address, Requests};

/// One worker that answers 204 to everything.
///
/// # Errors
/// If it does not start.
pub(crate) fn start(place: &Place, requests: &Rc<Requests>) -> Outcome<Server> {
    let prefix = place.directory_of_nobody("nginx")?;
    let address = free_port()?;
    let configuration = prefix.join("nginx.conf");
    fs::write(
        &configuration,
        format!(
            "daemon off;\nworker_processes 1;\npid nginx.pid;\nerror_log stderr error;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 3600s;\n\
             client_body_temp_path body;\n  proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n\
             server {{ listen {address}; location / {{ return 204; }} }}\n}}\n"
        ),
    )?;
    let mut command = words(["nginx", "-e", "stderr", "-p"]);
    command.extend([prefix.into_os_string(), "-c".into(), configuration.into_os_string()]);
    let process = Running::start(&command, RunAs::Nobody, &Place::log("nginx")?)?;
    Server::ready("nginx, return 204", Address::Tcp(address), Rc::clone(requests), 204, vec![process])
}
