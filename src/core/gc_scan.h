/* SPDX-License-Identifier: Apache-2.0 */
/* Fills a graph with everything that can be referred to, its references and the roots:
 *
 *     roots    leases that are not expired and what they hold; images that are not expired;
 * containers; sandboxes; ingests whose time has not come; what is labelled gc.root; what collectors
 * call active edges    image -> target; snapshot -> parent; ingest -> expected blob; container ->
 * snapshot; and by labels: gc.ref.* carrier -> named, gc.bref.* named -> carrier, gc.cond.* carrier
 * -> named while the condition holds
 */
#pragma once

#include "core/db.h"
#include "core/gc_graph.h"

/* -ENOMEM. The strings of the graph are in its arena. */
int gc_scan_records(struct db *db, struct bolt_tx *tx, struct gc_graph *g) _must_check_;
/* Begins the @i-th collector's round and adds its resources. Whatever it returned. */
int gc_scan_collector(struct db *db, size_t i, struct gc_graph *g) _must_check_;
