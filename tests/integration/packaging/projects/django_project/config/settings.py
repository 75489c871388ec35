"""Django's settings, in a package with the name of one of Voicemill's."""

SECRET_KEY = "of-a-test"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "config.urls"
USE_TZ = True
