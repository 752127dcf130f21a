//! Pure codecs: native frames, the line protocol, JSON forms.
