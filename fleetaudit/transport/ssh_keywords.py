"""Every keyword of ssh_config(5), so that a mistyped one is not taken for one that does not matter here."""

from __future__ import annotations

from typing import Final

# OpenSSH 9.2 as Debian ships it, what later versions (to 10.0) have besides, and what ssh still takes of old.
SSH_KEYWORDS: Final = frozenset(
    (
        *("addkeystoagent", "addressfamily", "afstokenpassing", "batchmode", "bindaddress"),
        *("bindinterface", "canonicaldomains", "canonicalizefallbacklocal", "canonicalizehostname"),
        *("canonicalizemaxdots", "canonicalizepermittedcnames", "casignaturealgorithms", "certificatefile"),
        *("challengeresponseauthentication", "channeltimeout", "checkhostip", "cipher", "ciphers"),
        *("clearallforwardings", "compression", "compressionlevel", "connectionattempts", "connecttimeout"),
        *("controlmaster", "controlpath", "controlpersist", "dsaauthentication", "dynamicforward"),
        *("enableescapecommandline", "enablesshkeysign", "escapechar", "exitonforwardfailure"),
        *("fallbacktorsh", "fingerprinthash", "forkafterauthentication", "forwardagent", "forwardx11"),
        *("forwardx11timeout", "forwardx11trusted", "gatewayports", "globalknownhostsfile"),
        *("globalknownhostsfile2", "gssapiauthentication", "gssapiclientidentity"),
        *("gssapidelegatecredentials", "gssapikexalgorithms", "gssapikeyexchange"),
        *("gssapirenewalforcesrekey", "gssapiserveridentity", "gssapitrustdns", "hashknownhosts"),
        *("hostbasedacceptedalgorithms", "hostbasedauthentication", "hostbasedkeytypes"),
        *("hostkeyalgorithms", "hostkeyalias", "hostname", "identitiesonly", "identityagent"),
        *("identityfile", "identityfile2", "ipqos", "kbdinteractiveauthentication"),
        *("kbdinteractivedevices", "keepalive", "kerberosauthentication", "kerberostgtpassing"),
        *("kexalgorithms", "knownhostscommand", "localcommand", "localforward", "loglevel", "logverbose"),
        *("macs", "nohostauthenticationforlocalhost", "numberofpasswordprompts", "obscurekeystroketiming"),
        *("passwordauthentication", "permitlocalcommand", "permitremoteopen", "pkcs11provider", "port"),
        *("preferredauthentications", "protocol", "protocolkeepalives", "proxycommand", "proxyjump"),
        *("proxyusefdpass", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes", "pubkeyauthentication"),
        *("refuseconnection", "rekeylimit", "remotecommand", "remoteforward", "requesttty"),
        *("requiredrsasize", "revokedhostkeys", "rhostsauthentication", "rhostsrsaauthentication"),
        *("rsaauthentication", "securitykeyprovider", "sendenv", "serveralivecountmax"),
        *("serveraliveinterval", "sessiontype", "setenv", "setuptimeout", "skeyauthentication"),
        *("smartcarddevice", "stdinnull", "streamlocalbindmask", "streamlocalbindunlink"),
        *("stricthostkeychecking", "syslogfacility", "tag", "tcpkeepalive", "tisauthentication", "tunnel"),
        *("tunneldevice", "updatehostkeys", "useblacklistedkeys", "useprivilegedport", "user"),
        *("userknownhostsfile", "userknownhostsfile2", "useroaming", "usersh", "verifyhostkeydns"),
        *("versionaddendum", "visualhostkey", "warnweakcrypto", "xauthlocation"),
    )
)
