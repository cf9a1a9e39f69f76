// Runs one case of flows through SimGrid and prints when each of them ends.
//
//     driver < CASE
//
// CASE is text, one record a line:
//
//     link CAPACITY                           bytes/s; links are numbered from 0 in the order given
//     flow SOURCE TARGET BYTES LINK [LINK..]  hosts by number; a (source, target) pair comes once
//
// All flows start at time 0. The end of each is printed in seconds, one a line, in the order of the flows; the last
// line is `wall SECONDS`, the time that the simulation itself took.
//
// The network model is CM02, the bare max-min sharing: no factors on bandwidth or latency, no weights by latency, no
// traffic of acknowledgements (crosstraffic), no TCP window (TCP-gamma). Links have no latency. Precisions (bytes/s and
// seconds, both absolute) are below float noise.

#include <simgrid/s4u.hpp>
#include <xbt/log.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace sg4 = simgrid::s4u;

namespace {

struct Flow {
  int source;
  int target;
  std::uint64_t num_bytes;
  std::vector<int> links;
};

struct Case {
  std::vector<double> capacity_bytes_per_s;
  std::vector<Flow> flows;
};

Case read_case(std::istream& in)
{
  Case read;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string kind;
    words >> kind;
    if (kind == "link") {
      double capacity = 0;
      words >> capacity;
      read.capacity_bytes_per_s.push_back(capacity);
    } else if (kind == "flow") {
      Flow flow{};
      words >> flow.source >> flow.target >> flow.num_bytes;
      for (int link; words >> link;)
        flow.links.push_back(link);
      read.flows.push_back(flow);
    } else {
      throw std::runtime_error("driver: a line must open with link or flow, got: " + line);
    }
  }
  return read;
}

void configure()
{
  xbt_log_control_set("xbt_cfg.thresh:warning"); // else it prints every option that is set
  sg4::Engine::set_config("network/model:CM02");
  sg4::Engine::set_config("network/crosstraffic:0");
  sg4::Engine::set_config("network/TCP-gamma:0");
  sg4::Engine::set_config("network/bandwidth-factor:1");
  sg4::Engine::set_config("network/latency-factor:1");
  sg4::Engine::set_config("network/weight-S:0");
  sg4::Engine::set_config("maxmin/precision:1e-12");
  sg4::Engine::set_config("surf/precision:1e-12");
}

// One route for each flow, in one direction: no host sends to itself, and no two flows share a route object.
void build_platform(const Case& read, std::map<int, sg4::Host*>& hosts)
{
  auto* zone = sg4::create_full_zone("cluster");
  std::vector<sg4::Link*> links;
  for (double capacity : read.capacity_bytes_per_s) {
    auto* link = zone->create_link("link" + std::to_string(links.size()), capacity);
    link->set_latency(0);
    link->set_sharing_policy(sg4::Link::SharingPolicy::SHARED);
    links.push_back(link->seal());
  }
  for (const Flow& flow : read.flows)
    for (int rank : {flow.source, flow.target})
      if (hosts.find(rank) == hosts.end())
        hosts[rank] = zone->create_host("host" + std::to_string(rank), 1e9)->seal();
  for (const Flow& flow : read.flows) {
    std::vector<sg4::LinkInRoute> route;
    for (int link : flow.links)
      route.emplace_back(links.at(link));
    zone->add_route(hosts.at(flow.source)->get_netpoint(), hosts.at(flow.target)->get_netpoint(), nullptr, nullptr,
                    route, false);
  }
  zone->seal();
}

} // namespace

int main(int argc, char** argv)
{
  sg4::Engine engine(&argc, argv);
  configure();
  const Case read = read_case(std::cin);
  std::map<int, sg4::Host*> hosts;
  build_platform(read, hosts);

  std::vector<double> end_s(read.flows.size());
  sg4::Actor::create("starter", hosts.begin()->second, [&]() {
    std::vector<sg4::CommPtr> comms;
    for (const Flow& flow : read.flows)
      comms.push_back(sg4::Comm::sendto_async(hosts.at(flow.source), hosts.at(flow.target), flow.num_bytes));
    for (std::size_t i = 0; i < comms.size(); ++i) {
      comms[i]->wait();
      end_s[i] = comms[i]->get_finish_time();
    }
  });
  const auto began = std::chrono::steady_clock::now();
  engine.run();
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - began;

  for (double end : end_s)
    std::printf("%.17g\n", end);
  std::printf("wall %.6f\n", wall.count());
  return 0;
}
