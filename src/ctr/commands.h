/* SPDX-License-Identifier: Apache-2.0 */
/* The groups of commands, one a file. */
#pragma once

#include "ctr/ctr.h"

extern const struct ctr_command cmd_containers;	  /* cmd_containers.c */
extern const struct ctr_command cmd_deprecations; /* cmd_misc.c */
extern const struct ctr_command cmd_info;	  /* cmd_misc.c */
extern const struct ctr_command cmd_oci;	  /* cmd_misc.c */
extern const struct ctr_command cmd_run;	  /* cmd_run.c */
extern const struct ctr_command cmd_tasks;	  /* cmd_tasks.c */
extern const struct ctr_command cmd_version;	  /* cmd_misc.c */
extern const struct ctr_command cmd_content;	  /* cmd_content.c */
extern const struct ctr_command cmd_events;	  /* cmd_events.c */
extern const struct ctr_command cmd_images;	  /* cmd_images.c */
extern const struct ctr_command cmd_leases;	  /* cmd_leases.c */
extern const struct ctr_command cmd_namespaces;	  /* cmd_namespaces.c */
extern const struct ctr_command cmd_pprof;	  /* cmd_pprof.c */
extern const struct ctr_command cmd_plugins;	  /* cmd_plugins.c */
extern const struct ctr_command cmd_pods;	  /* cmd_pods.c */
extern const struct ctr_command cmd_sandboxes;	  /* cmd_sandboxes.c */
extern const struct ctr_command cmd_shim;	  /* cmd_shim.c */
extern const struct ctr_command cmd_snapshots;	  /* cmd_snapshots.c */
extern const struct ctr_command cmd_system;	  /* cmd_system.c */
extern const struct ctr_command cmd_complete;	  /* cmd_complete.c */
extern const struct ctr_command cmd_completion;	  /* cmd_complete.c */
extern const struct ctr_command cmd_install;	  /* cmd_install.c */
extern const struct ctr_command cmd_man;	  /* cmd_man.c */
