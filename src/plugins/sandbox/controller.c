/* SPDX-License-Identifier: Apache-2.0 */
/* The set of controllers: see controller.h. */
#include "plugins/sandbox/controller.h"

#include "base/str.h"

int sandbox_controllers_add(struct sandbox_controllers *set, const char *name,
			    struct sandbox_controller *c, struct err *err)
{
	for (size_t i = 0; i < set->n; i++)
		if (streq(set->v[i].name, name))
			return err_set(err, ERR_ALREADY_EXISTS, "sandbox controller %s", name);
	if (set->n == SANDBOX_CONTROLLERS_MAX)
		return err_set(err, ERR_RESOURCE_EXHAUSTED, "more than %d sandbox controllers",
			       SANDBOX_CONTROLLERS_MAX);
	set->v[set->n].name = name;
	set->v[set->n++].value = c;
	return 0;
}

int sandbox_controllers_get(const struct sandbox_controllers *set, const char *name,
			    struct sandbox_controller **ret, struct err *err)
{
	/* The texts of containerd, whose class comes first here. */
	if (str_empty(name))
		return err_set_raw(err, ERR_INVALID_ARGUMENT,
				   "invalid argument: sandbox controller name can not be empty");
	for (size_t i = 0; i < set->n; i++)
		if (streq(set->v[i].name, name)) {
			*ret = set->v[i].value;
			return 0;
		}
	return err_set_raw(err, ERR_NOT_FOUND, "not found: failed to get sandbox controller by %s",
			   name);
}
