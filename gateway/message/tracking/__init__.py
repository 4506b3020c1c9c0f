"""Links of a message made to lead over us, and a pixel that says that it was opened: nothing else of it is touched.

`survey` finds the texts, with `leaf` and `nesting`; `markup` and `plain` find the links in them, `links` says where
each leads; `stencil` is a text with holes, `patching` puts the filled ones in place; `listing` adds the fields by which
one unsubscribes. All of it is pure: tokens are made by who calls.
"""
