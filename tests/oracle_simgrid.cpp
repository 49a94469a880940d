/*
 * oracle_simgrid.cpp -- finish times of max-min sharing against SimGrid's, flow by flow.
 *
 *     oracle_simgrid                                      the test: random networks, 8 to 64 ranks
 *     oracle_simgrid MATRIX_FILE NUM_RANKS tree|rails     one matrix; prints CSV with CPU seconds
 *
 * SimGrid's CM02 without cross-traffic is the ideal flow model. It weighs shares by the latency of
 * the path, so latencies are 0 here, and its solver is told to be precise (maxmin/precision 1e-9);
 * one of its seconds is one of our nanoseconds. SimGrid is one simulation a process: each case is
 * a child.
 */
#include <simgrid/s4u.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <random>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

extern "C" {
#include "net/maxmin.h"
}

namespace sg4 = simgrid::s4u;

namespace
{

constexpr double tolerance = 1e-6;

struct network {
    int num_ranks = 0;
    std::vector<double> capacity;
    std::vector<maxmin_flow> flows;
    std::vector<int> source;
    std::vector<int> destination;
    std::vector<double> start_ns; /* ascending */
};

double cpu_s()
{
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void add(network &net, int src, int dst, double bytes, double start_ns,
         std::initializer_list<int> path)
{
    maxmin_flow flow{};
    flow.id = static_cast<int>(net.flows.size());
    for (int link : path) {
        flow.link[flow.num_links++] = link;
    }
    flow.bytes = bytes;
    net.flows.push_back(flow);
    net.source.push_back(src);
    net.destination.push_back(dst);
    net.start_ns.push_back(start_ns);
}

/* Links: ranks out, ranks in, nodes (or NICs) out, nodes (or NICs) in. */
void add_pair(network &net, bool is_rails, int per_node, int src, int dst, double bytes,
              double start_ns)
{
    int ranks = net.num_ranks;
    if (src / per_node == dst / per_node) {
        add(net, src, dst, bytes, start_ns, {src, ranks + dst});
    } else if (is_rails) {
        add(net, src, dst, bytes, start_ns, {2 * ranks + src, 3 * ranks + dst});
    } else {
        add(net, src, dst, bytes, start_ns,
            {src, 2 * ranks + src / per_node, 3 * ranks + dst / per_node, ranks + dst});
    }
}

std::vector<double> finish_ours(const network &net)
{
    std::vector<double> finish_ns(net.flows.size());
    maxmin *solver = nullptr;
    if (maxmin_open(&solver, net.capacity.data(), static_cast<int>(net.capacity.size())) !=
        STATUS_OK) {
        std::abort();
    }
    size_t first = 0;
    for (size_t popped = 0; popped < net.flows.size(); popped++) {
        while (first < net.flows.size() && net.start_ns[first] <= maxmin_next_ns(solver)) {
            size_t last = first;
            while (last < net.flows.size() && net.start_ns[last] <= net.start_ns[first]) {
                last++;
            }
            if (maxmin_start(solver, net.start_ns[first], &net.flows[first],
                             static_cast<int>(last - first)) != STATUS_OK) {
                std::abort();
            }
            first = last;
        }
        double time_ns = maxmin_next_ns(solver);
        finish_ns[static_cast<size_t>(maxmin_pop(solver))] = time_ns;
    }
    maxmin_close(solver);
    return finish_ns;
}

void send_all(const network *net, const std::vector<sg4::Host *> *hosts,
              std::vector<double> *finish_ns)
{
    std::vector<sg4::CommPtr> comms;
    for (size_t i = 0; i < net->flows.size(); i++) {
        if (net->start_ns[i] > sg4::Engine::get_clock()) {
            sg4::this_actor::sleep_until(net->start_ns[i]);
        }
        comms.push_back(sg4::Comm::sendto_async((*hosts)[static_cast<size_t>(net->source[i])],
                                                (*hosts)[static_cast<size_t>(net->destination[i])],
                                                static_cast<uint64_t>(net->flows[i].bytes)));
    }
    for (size_t i = 0; i < comms.size(); i++) {
        comms[i]->wait();
        (*finish_ns)[i] = comms[i]->get_finish_time();
    }
}

std::vector<double> finish_simgrid(const network &net)
{
    std::vector<std::string> words = {"oracle_simgrid",
                                      "--cfg=network/model:CM02",
                                      "--cfg=network/crosstraffic:0",
                                      "--cfg=maxmin/precision:1e-9",
                                      "--cfg=surf/precision:1e-9",
                                      "--log=root.threshold:error"};
    std::vector<char *> argv;
    for (std::string &word : words) {
        argv.push_back(word.data());
    }
    int argc = static_cast<int>(argv.size());
    argv.push_back(nullptr);
    sg4::Engine engine(&argc, argv.data());
    auto *zone = sg4::create_full_zone("zone");
    std::vector<sg4::Host *> hosts;
    std::vector<sg4::Link *> links;
    for (int rank = 0; rank < net.num_ranks; rank++) {
        hosts.push_back(zone->create_host("rank" + std::to_string(rank), 1e9));
    }
    for (size_t i = 0; i < net.capacity.size(); i++) {
        links.push_back(zone->create_link("link" + std::to_string(i), net.capacity[i]));
        links.back()->set_latency(0.0);
    }
    for (size_t i = 0; i < net.flows.size(); i++) {
        std::vector<sg4::LinkInRoute> path;
        for (int k = 0; k < net.flows[i].num_links; k++) {
            path.emplace_back(links[static_cast<size_t>(net.flows[i].link[k])]);
        }
        zone->add_route(hosts[static_cast<size_t>(net.source[i])]->get_netpoint(),
                        hosts[static_cast<size_t>(net.destination[i])]->get_netpoint(), nullptr,
                        nullptr, path, false);
    }
    zone->seal();
    std::vector<double> finish_ns(net.flows.size());
    sg4::Actor::create("sender", hosts[0], send_all, &net, &hosts, &finish_ns);
    engine.run();
    return finish_ns;
}

/* Compares, in a process that can be thrown away; prints one line. Returns 0 if all agree. */
int compare(const network &net, const std::string &name)
{
    double begin_s = cpu_s();
    std::vector<double> ours = finish_ours(net);
    double ours_s = cpu_s() - begin_s;
    begin_s = cpu_s();
    std::vector<double> theirs = finish_simgrid(net);
    double theirs_s = cpu_s() - begin_s;
    double worst = 0.0;
    for (size_t i = 0; i < ours.size(); i++) {
        worst = std::max(worst, std::fabs(ours[i] - theirs[i]) / theirs[i]);
    }
    double makespan_ns = *std::max_element(ours.begin(), ours.end());
    double theirs_ns = *std::max_element(theirs.begin(), theirs.end());
    bool is_equal =
        worst <= tolerance && std::fabs(makespan_ns - theirs_ns) <= tolerance * theirs_ns;
    std::printf("%s,%d,%zu,%.6f,%.6f,%.2e,%.4f,%.4f%s\n", name.c_str(), net.num_ranks,
                net.flows.size(), makespan_ns * 1e-3, theirs_ns * 1e-3, worst, ours_s, theirs_s,
                is_equal ? "" : ",DIFFERS");
    std::fflush(stdout);
    return is_equal ? 0 : 1;
}

int in_child(const network &net, const std::string &name)
{
    pid_t child = fork();
    if (child == 0) {
        _exit(compare(net, name));
    }
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status)
               ? WEXITSTATUS(status)
               : 1;
}

network draw(unsigned seed, int num_ranks, bool has_uplinks, bool is_skewed, bool is_staggered)
{
    std::mt19937_64 random(seed);
    auto uniform = [&random](double low, double high) {
        return low + (high - low) * static_cast<double>(random() >> 11) * 0x1.0p-53;
    };
    network net;
    net.num_ranks = num_ranks;
    for (int link = 0; link < 4 * num_ranks; link++) {
        net.capacity.push_back(link < 2 * num_ranks ? uniform(200.0, 450.0) : uniform(25.0, 400.0));
    }
    double now_ns = 0.0;
    for (int src = 0; src < num_ranks; src++) {
        now_ns += is_staggered ? std::floor(uniform(0.0, 3000.0)) : 0.0;
        for (int dst = 0; dst < num_ranks; dst++) {
            double zipf = is_skewed ? 1.0 / std::sqrt(1.0 + (dst * 7) % num_ranks) : 0.3;
            double noise = is_skewed ? uniform(0.5, 1.5) : 1.0;
            if (src != dst) {
                add_pair(net, !has_uplinks, has_uplinks ? 8 : 1, src, dst,
                         std::floor(1e6 * zipf * noise), now_ns);
            }
        }
    }
    return net;
}

int run_matrix(const char *path, int num_ranks, bool is_rails)
{
    network net;
    net.num_ranks = num_ranks;
    for (int link = 0; link < 4 * num_ranks; link++) {
        net.capacity.push_back(link < 2 * num_ranks ? 450.0 : (is_rails ? 50.0 : 400.0));
    }
    std::ifstream file(path);
    int src = 0;
    int dst = 0;
    double bytes = 0.0;
    while (file >> src >> dst >> bytes) {
        if (src < num_ranks && dst < num_ranks) {
            add_pair(net, is_rails, 8, src, dst, bytes, 0.0);
        }
    }
    return net.flows.empty() ? 1 : in_child(net, is_rails ? "rails" : "tree");
}

} // namespace

int main(int argc, char **argv)
{
    std::printf("network,ranks,flows,makespan_us,simgrid_us,worst_relative,cpu_s,simgrid_cpu_s\n");
    std::fflush(stdout);
    if (argc == 4) {
        return run_matrix(argv[1], std::atoi(argv[2]), std::strcmp(argv[3], "rails") == 0);
    }
    int failed = 0;
    unsigned seed = 1;
    for (int num_ranks : {8, 16, 32}) {
        for (int kind = 0; kind < 8; kind++, seed++) {
            std::string name = std::string(kind & 1 ? "two" : "one") + "-level " +
                               (kind & 2 ? "skewed" : "even") + (kind & 4 ? " staggered" : "");
            failed |= in_child(draw(seed, num_ranks, kind & 1, kind & 2, kind & 4), name);
        }
    }
    failed |= in_child(draw(100, 64, false, false, false), "one-level even");
    failed |= in_child(draw(101, 64, true, true, false), "two-level skewed");
    return failed;
}
