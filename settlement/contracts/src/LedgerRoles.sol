// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControlDefaultAdminRules} from
    "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

import {ISettlementLedger} from "./ISettlementLedger.sol";

/**
 * @title LedgerRoles
 * @notice The four roles of a ledger. No key holds two: one stolen key can't both post and attest. The admin is a
 * timelock: whatever it does is announced for as long as a post waits. The auditors are few, and listed.
 */
abstract contract LedgerRoles is AccessControlDefaultAdminRules {
    bytes32 public constant POSTER_ROLE = keccak256("POSTER_ROLE");
    bytes32 public constant AUDITOR_ROLE = keccak256("AUDITOR_ROLE");
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");

    /// @notice The most auditors: an attestation looks at each of them.
    uint256 public constant MAX_AUDITORS = 16;

    /// @dev Chain id of a local development chain, where one person plays all roles and waits a minute, not two days.
    uint256 private constant DEVELOPMENT_CHAIN_ID = 31_337;

    address[] internal _auditors;

    constructor(uint48 adminDelay, address admin, address poster, address[] memory auditors, address[] memory guardians)
        AccessControlDefaultAdminRules(adminDelay, admin)
    {
        _grantRole(POSTER_ROLE, poster);
        for (uint256 i = 0; i < auditors.length; ++i) {
            _grantRole(AUDITOR_ROLE, auditors[i]);
        }
        for (uint256 i = 0; i < guardians.length; ++i) {
            _grantRole(GUARDIAN_ROLE, guardians[i]);
        }
    }

    /// @dev Every grant passes here: by the constructor, by the admin, and when the admin's own key changes hands.
    function _grantRole(bytes32 role, address account) internal override returns (bool granted) {
        if (!_isDevelopmentChain()) {
            bytes32[4] memory roles = [DEFAULT_ADMIN_ROLE, POSTER_ROLE, AUDITOR_ROLE, GUARDIAN_ROLE];
            for (uint256 i = 0; i < roles.length; ++i) {
                if (roles[i] != role && hasRole(roles[i], account)) {
                    revert ISettlementLedger.AccountHoldsAnotherRole(account, roles[i]);
                }
            }
            if (role == DEFAULT_ADMIN_ROLE) _requireTimelock(account);
        }
        granted = super._grantRole(role, account);
        if (granted && role == AUDITOR_ROLE) {
            if (_auditors.length == MAX_AUDITORS) revert ISettlementLedger.AuditorsTooMany(MAX_AUDITORS);
            _auditors.push(account);
        }
    }

    /// @dev Every revocation passes here, and what a holder gives up itself.
    function _revokeRole(bytes32 role, address account) internal virtual override returns (bool revoked) {
        revoked = super._revokeRole(role, account);
        if (!revoked || role != AUDITOR_ROLE) return revoked;
        for (uint256 i = 0; i < _auditors.length; ++i) {
            if (_auditors[i] != account) continue;
            _auditors[i] = _auditors[_auditors.length - 1];
            _auditors.pop();
            break;
        }
    }

    function _isDevelopmentChain() internal view returns (bool) {
        return block.chainid == DEVELOPMENT_CHAIN_ID;
    }

    /// @dev What a timelock says of its delay is all that can be asked; who may propose to it is its deployer's choice.
    function _requireTimelock(address account) private view {
        uint256 least = defaultAdminDelay();
        if (account.code.length == 0) revert ISettlementLedger.AdminNotTimelock(account, least);
        try TimelockController(payable(account)).getMinDelay() returns (uint256 found) {
            if (found < least) revert ISettlementLedger.AdminNotTimelock(account, least);
        } catch {
            revert ISettlementLedger.AdminNotTimelock(account, least);
        }
    }
}
