"""What `lazul.core` says of itself in the array API standard."""

from .. import _core


class NamespaceInfo:
    """Capabilities, devices and dtypes."""

    def capabilities(self):
        """What optional parts of the standard there are."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 32}

    def default_device(self):
        """The device that operations run on where nothing else is said."""
        return _core.default_device()

    def devices(self):
        """All devices."""
        gpus = _core.device_count(_core.gpu)
        return [_core.Device(_core.cpu)] + [_core.Device(_core.gpu, i) for i in range(gpus)]

    def default_dtypes(self, *, device=None):
        """The dtypes of results where nothing else is said."""
        return {
            "real floating": _core.float32,
            "complex floating": _core.complex64,
            "integral": _core.int32,
            "indexing": _core.uint32,
        }

    def dtypes(self, *, device=None, kind=None):
        """The dtypes of a kind, or all of them."""
        names = {
            "bool": _core.bool_,
            **{
                n: getattr(_core, n)
                for n in (
                    "int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32 float64 complex64"
                ).split()
            },
        }
        if kind is None:
            return names
        return {n: d for n, d in names.items() if _core.isdtype(d, kind)}
