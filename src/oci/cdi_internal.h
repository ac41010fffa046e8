/* SPDX-License-Identifier: Apache-2.0 */
/* What cdi.c and cdi_edit.c share. */
#pragma once

#include "oci/cdi.h"

/* "containerEdits" of a device or a spec file; NULL is fine. */
int cdi_edits_check(const json_t *edits, struct err *err) _must_check_;
int cdi_edits_apply(const json_t *edits, json_t *spec, struct err *err) _must_check_;
